"""Metrics of matured predictions."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.monitoring.live_metrics import Confusion, live_metrics, reweighted_f1

counts = st.integers(1, 1_000)


@given(counts, counts, counts, counts)
def test_reweighting_to_the_live_base_rate_gives_the_live_f1(tp: int, fp: int, fn: int, tn: int) -> None:
    live = Confusion(tp, fp, fn, tn)
    assert reweighted_f1(live, live.base_rate) == pytest.approx(live.f1)


@given(counts, counts, counts, counts, st.integers(2, 50))
def test_more_non_buyers_of_the_same_kind_do_not_change_the_reweighted_f1(
    tp: int, fp: int, fn: int, tn: int, factor: int
) -> None:
    reference = Confusion(tp, fp, fn, tn)
    fewer_buyers = Confusion(tp, fp * factor, fn, tn * factor)
    assert fewer_buyers.f1 < reference.f1
    assert reweighted_f1(fewer_buyers, reference.base_rate) == pytest.approx(reference.f1)


def test_reweighted_f1_without_true_positives_is_zero() -> None:
    assert reweighted_f1(Confusion(0, 5, 5, 90), 0.05) == 0.0
    assert reweighted_f1(Confusion(0, 0, 0, 0), 0.05) == 0.0


def test_live_metrics_of_a_hand_computed_case() -> None:
    frame = pd.DataFrame(
        {
            "probability": [0.9, 0.8, 0.3, 0.1],
            "will_purchase": [True, True, False, False],
            "purchased": [True, False, True, False],
        }
    )
    metrics = live_metrics(frame)
    assert (metrics.n, metrics.buyers, metrics.base_rate) == (4, 2, 0.5)
    assert (metrics.precision, metrics.recall, metrics.f1) == (0.5, 0.5, 0.5)
    assert metrics.auc == pytest.approx(0.75)
    assert metrics.ap == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.brier == pytest.approx((0.01 + 0.64 + 0.49 + 0.01) / 4)


def test_ranking_metrics_of_a_single_class_are_none() -> None:
    frame = pd.DataFrame({"probability": [0.2], "will_purchase": [False], "purchased": [False]})
    metrics = live_metrics(frame)
    assert (metrics.auc, metrics.ap, metrics.f1) == (None, None, 0.0)
    assert math.isclose(metrics.brier, 0.04)
