"""Limits and evidence of the retraining triggers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.monitoring.drift_measurement import DriftMeasurement
from retail_core.monitoring.drift_statistics import SCORE, FeatureDrift
from retail_core.monitoring.live_metrics import Confusion, reweighted_f1
from retail_core.monitoring.monitor_report import OK, overall_status
from retail_core.monitoring.trigger_check import INSUFFICIENT_DATA, Action, TriggerCheck
from retail_core.monitoring.triggers import (
    ReferencePerformance,
    check_drift,
    check_new_data,
    check_performance,
)

REFERENCE = ReferencePerformance(version="3", f1=0.40, base_rate=0.05)


@pytest.mark.parametrize(
    ("events_now", "fired", "value"),
    [(1_000, False, 0.0), (1_099, False, 0.099), (1_100, True, 0.1), (33_000, True, 32.0)],
)
def test_new_data_fires_at_the_limit(events_now: int, fired: bool, value: float) -> None:
    check = check_new_data(events_now, 1_000, "3", 0.10)
    assert check.fired is fired
    assert check.value == pytest.approx(value)
    assert check.limit == 0.10
    assert f"{events_now:,} events now, 1,000 in the data of version 3" in check.evidence


@given(st.integers(1, 10**9).filter(lambda n: n % 10 == 0))
def test_new_data_fires_at_exactly_ten_percent_at_every_size(events_then: int) -> None:
    assert check_new_data(events_then + events_then // 10, events_then, "1", 0.10).fired


def test_new_data_without_a_count_of_training_events_is_insufficient() -> None:
    check = check_new_data(10, 0, "1", 0.10)
    assert (check.fired, check.value) == (False, None)
    assert "insufficient data" in check.evidence


def test_performance_fires_at_five_percent_below_the_reference() -> None:
    # Recall 0.4, false positive rate 6/190: at a base rate of 5 % precision and F1 are 0.4.
    equal = Confusion(40, 60, 60, 1_840)
    assert reweighted_f1(equal, 0.05) == pytest.approx(0.40)
    assert not check_performance(equal, REFERENCE, limit=0.05, min_buyers=50).fired
    worse = check_performance(Confusion(37, 63, 63, 1_837), REFERENCE, limit=0.05, min_buyers=50)
    assert worse.fired
    assert worse.limit == pytest.approx(0.38)
    assert worse.value == pytest.approx(0.37)
    assert "2,000 matured predictions later than its training data, 100 buyers" in worse.evidence


def test_performance_does_not_fire_because_the_base_rate_fell() -> None:
    fewer_buyers = Confusion(40, 600, 60, 18_400)
    assert fewer_buyers.f1 < 0.2
    assert not check_performance(fewer_buyers, REFERENCE, limit=0.05, min_buyers=50).fired


def test_performance_with_too_few_buyers_is_insufficient() -> None:
    check = check_performance(Confusion(0, 10, 49, 1_000), REFERENCE, limit=0.05, min_buyers=50)
    assert (check.fired, check.value) == (False, None)
    assert check.evidence.startswith("insufficient data")
    assert check_performance(Confusion(0, 10, 50, 1_000), REFERENCE, limit=0.05, min_buyers=50).fired


def test_drift_fires_at_the_limit_and_names_the_drifted_features() -> None:
    drifts = [
        FeatureDrift("drifted", 0.5, 0.1, 0.3, True),
        FeatureDrift("stable", 0.01, 0.1, 0.7, False),
        FeatureDrift(SCORE, 0.5, 0.1, 0.0, True),
    ]
    check = check_drift(DriftMeasurement(drifts, "some rows"), "4", 0.3)
    assert check.fired
    assert check.value == pytest.approx(0.3)
    assert check.evidence == ("version 4, some rows: 1 of 2 features drifted: drifted PSI 0.50 (limit 0.10)")
    assert not check_drift(DriftMeasurement(drifts, "some rows"), "4", 0.31).fired


def test_drift_that_cannot_be_measured_never_fires() -> None:
    check = check_drift(DriftMeasurement([], "", "2 midnights"), "4", 0.25)
    assert (check.fired, check.value) == (False, None)
    assert check.evidence == "insufficient data: 2 midnights"


def test_the_overall_status_names_the_fired_triggers_first() -> None:
    quiet = TriggerCheck("a", False, 0.0, 1.0, None, Action.RETRAIN, "")
    unmeasured = TriggerCheck("b", False, None, 1.0, None, Action.RETRAIN, "")
    fired = TriggerCheck("c", True, 2.0, 1.0, (1.5, 2.5), Action.ALERT, "")
    assert overall_status([quiet]) == OK
    assert overall_status([quiet, unmeasured]) == INSUFFICIENT_DATA
    assert overall_status([quiet, unmeasured, fired]) == "c"


def test_a_stored_check_has_plain_values() -> None:
    check = TriggerCheck("c", True, 2.0, 1.0, (1.5, 2.5), Action.RECALIBRATE, "")
    assert check.to_dict()["interval"] == [1.5, 2.5]
    assert type(check.to_dict()["action"]) is str
