"""When a trigger fires, and what live quality means, without any store."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.monitoring.live_metrics import Confusion, live_metrics, reweighted_f1
from retail_core.monitoring.triggers import Reference, new_data, performance

counts = st.integers(1, 1_000)
REFERENCE = Reference(version="3", f1=0.40, base_rate=0.05)


@pytest.mark.parametrize(
    ("now", "fired", "value"),
    [(1_000, False, 0.0), (1_099, False, 0.099), (1_100, True, 0.1), (33_000, True, 32.0)],
)
def test_new_data_fires_from_the_limit_on(now: int, fired: bool, value: float) -> None:
    check = new_data(now, 1_000, "3", 0.10)
    assert check.fired is fired
    assert check.value == pytest.approx(value)
    assert check.limit == 0.10
    assert f"{now:,} events now, 1,000 in the data of version 3" in check.evidence


@given(st.integers(1, 10**9).filter(lambda n: n % 10 == 0))
def test_ten_percent_is_ten_percent_at_every_size(then: int) -> None:
    assert new_data(then + then // 10, then, "1", 0.10).fired


def test_new_data_without_a_record_of_the_old_says_so() -> None:
    check = new_data(10, 0, "1", 0.10)
    assert (check.fired, check.value) == (False, None)
    assert "insufficient data" in check.evidence


@given(counts, counts, counts, counts)
def test_reweighting_to_the_live_base_rate_changes_nothing(tp: int, fp: int, fn: int, tn: int) -> None:
    live = Confusion(tp, fp, fn, tn)
    assert reweighted_f1(live, live.base_rate) == pytest.approx(live.f1)


@given(counts, counts, counts, counts, st.integers(2, 50))
def test_more_of_the_same_non_buyers_do_not_move_it(tp: int, fp: int, fn: int, tn: int, times: int) -> None:
    reference = Confusion(tp, fp, fn, tn)
    quieter = Confusion(tp, fp * times, fn, tn * times)
    assert quieter.f1 < reference.f1
    assert reweighted_f1(quieter, reference.base_rate) == pytest.approx(reference.f1)


def test_nobody_found_is_zero_not_an_error() -> None:
    assert reweighted_f1(Confusion(0, 5, 5, 90), 0.05) == 0.0
    assert reweighted_f1(Confusion(0, 0, 0, 0), 0.05) == 0.0


def test_performance_fires_at_five_percent_below_and_not_above() -> None:
    # recall 0.4, false positives 6/190: at a base rate of 5 % precision and F1 are 0.4.
    good = Confusion(40, 60, 60, 1_840)
    assert reweighted_f1(good, 0.05) == pytest.approx(0.40)
    assert not performance(good, REFERENCE, limit=0.05, min_buyers=50).fired
    worse = performance(Confusion(37, 63, 63, 1_837), REFERENCE, limit=0.05, min_buyers=50)
    assert worse.fired
    assert worse.limit == pytest.approx(0.38)
    assert worse.value == pytest.approx(0.37)
    assert "2,000 matured predictions later than its training data, 100 buyers" in worse.evidence


def test_a_slump_in_buyers_alone_does_not_fire() -> None:
    slump = Confusion(40, 600, 60, 18_400)
    assert slump.f1 < 0.2
    assert not performance(slump, REFERENCE, limit=0.05, min_buyers=50).fired


def test_too_few_buyers_say_nothing() -> None:
    check = performance(Confusion(0, 10, 49, 1_000), REFERENCE, limit=0.05, min_buyers=50)
    assert (check.fired, check.value) == (False, None)
    assert check.evidence.startswith("insufficient data")
    assert performance(Confusion(0, 10, 50, 1_000), REFERENCE, limit=0.05, min_buyers=50).fired


def test_live_metrics_of_a_known_case() -> None:
    frame = pd.DataFrame(
        {
            "probability": [0.9, 0.8, 0.3, 0.1],
            "will_purchase": [True, True, False, False],
            "purchased": [True, False, True, False],
        }
    )
    found = live_metrics(frame)
    assert (found.n, found.buyers, found.base_rate) == (4, 2, 0.5)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)
    assert found.auc == pytest.approx(0.75)
    assert found.ap == pytest.approx((1 + 2 / 3) / 2)
    assert found.brier == pytest.approx((0.01 + 0.64 + 0.49 + 0.01) / 4)


def test_metrics_that_need_both_kinds_are_none_without() -> None:
    frame = pd.DataFrame({"probability": [0.2], "will_purchase": [False], "purchased": [False]})
    found = live_metrics(frame)
    assert (found.auc, found.ap, found.f1) == (None, None, 0.0)
    assert math.isclose(found.brier, 0.04)
