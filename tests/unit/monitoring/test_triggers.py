"""Limits, actions and evidence of the triggers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.model.spec import ModelSpec
from retail_core.monitoring.calibration_test import CalibrationNull
from retail_core.monitoring.drift_measurement import DriftMeasurement
from retail_core.monitoring.drift_statistics import SCORE, FeatureDrift
from retail_core.monitoring.matured_days import MaturedDay, MaturedDays
from retail_core.monitoring.monitor_report import OK, overall_status
from retail_core.monitoring.past_attempts import (
    PastAttempt,
    calibration_action,
    evidence_start,
    newest_training,
)
from retail_core.monitoring.performance_test import ReferencePerformance
from retail_core.monitoring.trigger_check import INSUFFICIENT_DATA, Action, TriggerCheck
from retail_core.monitoring.trigger_rules import (
    check_age,
    check_calibration,
    check_drift,
    check_new_data,
    check_performance,
    with_error,
)
from retail_core.training.attempts import AttemptKind

DAY = timedelta(days=1)
TRAIN, RECALIBRATE = AttemptKind.TRAIN, AttemptKind.RECALIBRATE
TRAINED = datetime(2025, 3, 1, tzinfo=UTC)
NULL = CalibrationNull(tolerance=0.1, reference_buyers=1_000, overdispersion=0.005)
REFERENCE = ReferencePerformance("3", 0.36, 0.36, 0.026, 0.039, relative_error=0.05, design_effect=1.2)


def attempt(
    days: float = 0,
    kind: AttemptKind = TRAIN,
    *,
    reason: str = "",
    promoted: bool = True,
    events: int = 1_000,
) -> PastAttempt:
    """An attempt that many days after `TRAINED`."""
    return PastAttempt(
        kind, TRAINED + days * DAY, events, "hash", reason, promoted, "the training of version 3"
    )


def new_data(
    events: int, *, days: float = 10, last: PastAttempt | None = None, same: bool = False
) -> TriggerCheck:
    """The check that many days after the last training."""
    midnight = TRAINED + days * DAY
    return check_new_data(events, midnight, last or attempt(), limit=0.1, pause=DAY, same_data=same)


def matured(count: int, *, buyers: int = 30, hits: int = 11, announced: int = 0) -> MaturedDays:
    """Equal matured days of version 3 with 30 promised buyers each, from `TRAINED` on."""
    specs: dict[str, ModelSpec] = {}
    rows = [MaturedDay(TRAINED + n * DAY, "3", 900, buyers, 30.0, 5.0, hits, 24) for n in range(count)]
    return MaturedDays(tuple(rows), announced, specs)


@pytest.mark.parametrize(
    ("events", "fired", "value"),
    [(1_000, False, 0.0), (1_099, False, 0.099), (1_100, True, 0.1), (33_000, True, 32.0)],
)
def test_new_data_fires_at_the_limit(events: int, fired: bool, value: float) -> None:
    check = new_data(events)
    assert check.fired is fired
    assert check.value == pytest.approx(value)
    assert (check.limit, check.action) == (0.10, Action.RETRAIN)
    assert (
        f"{events:,} events before 2025-03-11 00:00 UTC, 1,000 in the training of version 3" in check.evidence
    )


@given(st.integers(1, 10**9).filter(lambda n: n % 10 == 0))
def test_new_data_fires_at_exactly_ten_percent_at_every_size(events_then: int) -> None:
    assert new_data(events_then + events_then // 10, last=attempt(events=events_then)).fired


def test_new_data_pauses_after_an_attempt_and_never_asks_for_the_same_data_twice() -> None:
    paused, same = new_data(2_000, days=0.5), new_data(2_000, same=True)
    assert not paused.fired
    assert "paused for 1 days" in paused.evidence
    assert not same.fired
    assert "the same data have been trained on" in same.evidence
    assert new_data(2_000, days=1).fired


def test_new_data_without_a_count_of_training_events_is_insufficient() -> None:
    check = new_data(10, last=attempt(events=0))
    assert (check.fired, check.value) == (False, None)
    assert check.evidence.startswith(INSUFFICIENT_DATA)


def test_age_counts_from_the_last_training_whether_promoted_or_not() -> None:
    attempts = [attempt(0), attempt(20, promoted=False), attempt(25, RECALIBRATE)]
    last = newest_training(attempts)
    assert last.as_of == TRAINED + 20 * DAY
    assert not check_age(TRAINED + 49 * DAY, last, 30).fired
    check = check_age(TRAINED + 50 * DAY, last, 30)
    assert (check.fired, check.value, check.limit) == (True, 30, 30)


def test_performance_fires_on_a_clear_fall_and_states_what_it_could_detect() -> None:
    quiet = check_performance(matured(14), {"3": REFERENCE}, limit=0.05, min_buyers=50)
    assert not quiet.fired
    assert quiet.value == pytest.approx(REFERENCE.f1, rel=0.05)
    assert quiet.limit == pytest.approx(0.95 * REFERENCE.f1)
    assert quiet.interval is not None
    assert quiet.interval[0] < REFERENCE.f1 < quiet.interval[1]
    assert "14 matured days, 2025-03-01 to 2025-03-14, 12,600 predictions, 420 buyers" in quiet.evidence
    assert "smallest fall detectable with these buyers" in quiet.evidence
    worse = check_performance(matured(14, hits=5), {"3": REFERENCE}, limit=0.05, min_buyers=50)
    assert (worse.fired, worse.action) == (True, Action.RETRAIN)


def test_performance_with_too_few_buyers_says_how_many_are_missing() -> None:
    check = check_performance(matured(1, announced=2), {"3": REFERENCE}, limit=0.05, min_buyers=50)
    assert (check.fired, check.value) == (False, None)
    assert "(2 announced days left out)" in check.evidence
    assert check.evidence.endswith("50 buyers are needed, 20 are missing")
    without_days = check_performance(matured(0), {"3": REFERENCE}, limit=0.05, min_buyers=50)
    assert "no matured day later than the training data" in without_days.evidence


def test_performance_without_a_reference_is_insufficient() -> None:
    check = check_performance(matured(14), {}, limit=0.05, min_buyers=50)
    assert check.evidence == "insufficient data: the reference F1 of the champion is 0"


def test_the_error_of_a_reference_comes_from_its_interval() -> None:
    independent = with_error(REFERENCE, 5_000, 165, (0.36, 0.36))
    assert independent.design_effect == pytest.approx(1.0)
    resampled = with_error(REFERENCE, 5_000, 165, (0.28, 0.44))
    assert resampled.relative_error == pytest.approx(0.16 / 3.92 / 0.36)
    assert resampled.design_effect > 1.5
    assert with_error(REFERENCE, 5_000, 165, None).design_effect == pytest.approx(1.5)


def test_calibration_fires_in_both_directions_with_its_start_and_deviation() -> None:
    for buyers, sign in ((14, -1), (55, 1)):
        check = check_calibration(matured(6, buyers=buyers), NULL, 28, Action.RECALIBRATE)
        assert (check.fired, check.action, check.limit) == (True, Action.RECALIBRATE, 0.1)
        assert check.value == pytest.approx(buyers / 30 - 1)
        assert check.interval is not None
        nearer = min(check.interval, key=abs)
        assert nearer * sign > 0.1


def test_calibrated_days_raise_no_alarm_and_state_what_could_be_detected() -> None:
    check = check_calibration(matured(28), NULL, 28, Action.RECALIBRATE)
    assert not check.fired
    assert check.value == pytest.approx(0.0)
    assert "since 2025-03-01: 840 buyers came, 840 were promised: +0.0%" in check.evidence
    assert "smallest fall detectable after 7 days" in check.evidence


def test_calibration_of_a_single_day_is_insufficient() -> None:
    check = check_calibration(matured(1), NULL, 1, Action.RECALIBRATE)
    assert (check.fired, check.value) == (False, None)
    assert check.evidence.endswith("30.0 promised; at least 2 days and 20 promised are needed")


def test_evidence_restarts_after_the_attempt_that_it_asked_for_only() -> None:
    other = [attempt(0), attempt(5, reason="new_data")]
    assert evidence_start(other, "calibration") is None
    rejected_training = attempt(8, reason="calibration, new_data", promoted=False)
    assert evidence_start([*other, rejected_training], "calibration") == TRAINED + 8 * DAY
    rejected = attempt(9, RECALIBRATE, reason="calibration", promoted=False)
    assert evidence_start([*other, rejected], "calibration") is None
    assert evidence_start([*other, attempt(9, RECALIBRATE, reason="calibration")], "calibration") is not None


def test_calibration_asks_for_a_training_where_a_recalibration_was_tried_since_the_last_training() -> None:
    first_day = TRAINED + 3 * DAY
    assert calibration_action([attempt(0)], first_day) is Action.RECALIBRATE
    tried = [attempt(0), attempt(10, RECALIBRATE, reason="calibration", promoted=False)]
    assert calibration_action(tried, first_day) is Action.RETRAIN
    assert calibration_action([*tried, attempt(12)], first_day) is Action.RECALIBRATE


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
