"""Which step fired triggers lead to: the decision table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retail_core.monitoring.next_step import NO_CHAMPION, RetrainState, Step, decide_step
from retail_core.monitoring.trigger_check import Action, TriggerCheck
from retail_core.registry.promotion import GateVerdict
from retail_core.training.attempts import AttemptKind, AttemptState, TrainingAttempt

AS_OF = datetime(2025, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)
TRAIN, RECALIBRATE = AttemptKind.TRAIN, AttemptKind.RECALIBRATE


def check(name: str, action: Action, *, fired: bool = True) -> TriggerCheck:
    return TriggerCheck(name, fired, 1.0, 0.5, None, action, "")


def attempt(
    kind: AttemptKind, days_ago: int, reason: str, verdict: GateVerdict | None = GateVerdict.SHADOW
) -> TrainingAttempt:
    at = AS_OF - days_ago * DAY
    state = AttemptState.FINISHED if verdict else AttemptState.FAILED
    return TrainingAttempt(
        "run", kind, state, at, at, at, None, reason, "1", "2", None, None, verdict, None, False, {}
    )


def state(
    *attempts: TrainingAttempt, champion: str | None = "1", unchanged: frozenset[AttemptKind] = frozenset()
) -> RetrainState:
    return RetrainState(champion, AS_OF, {done.kind: done for done in attempts}, unchanged)


DRIFT, CALIBRATION = check("drift", Action.RETRAIN), check("calibration", Action.RECALIBRATE)
FRESHNESS = check("freshness", Action.ALERT)
QUIET = check("performance", Action.RETRAIN, fired=False)


@pytest.mark.parametrize(
    ("checks", "before", "step", "triggers"),
    [
        ([QUIET], state(), Step.WAIT, ""),
        ([QUIET, FRESHNESS], state(), Step.WAIT, ""),
        ([QUIET], state(champion=None), Step.RETRAIN, NO_CHAMPION),
        ([DRIFT, QUIET], state(), Step.RETRAIN, "drift"),
        ([CALIBRATION], state(), Step.RECALIBRATE, "calibration"),
        ([CALIBRATION, DRIFT, FRESHNESS], state(), Step.RETRAIN, "drift"),
        ([DRIFT], state(attempt(TRAIN, 1, "age")), Step.RETRAIN, "drift"),
        ([DRIFT], state(attempt(TRAIN, 1, "drift")), Step.WAIT, "drift"),
        ([DRIFT], state(attempt(TRAIN, 1, "age, drift")), Step.WAIT, "drift"),
        ([DRIFT], state(attempt(TRAIN, 1, "drift", None)), Step.WAIT, "drift"),
        ([DRIFT], state(attempt(TRAIN, 7, "drift")), Step.RETRAIN, "drift"),
        ([DRIFT], state(attempt(TRAIN, 1, "drift", GateVerdict.PROMOTED)), Step.RETRAIN, "drift"),
        ([DRIFT], state(attempt(TRAIN, 9, "drift"), unchanged=frozenset({TRAIN})), Step.WAIT, "drift"),
        ([DRIFT, CALIBRATION], state(attempt(TRAIN, 1, "drift")), Step.RECALIBRATE, "calibration"),
        (
            [CALIBRATION],
            state(attempt(RECALIBRATE, 9, "calibration"), unchanged=frozenset({RECALIBRATE})),
            Step.WAIT,
            "calibration",
        ),
        (
            [QUIET],
            state(attempt(TRAIN, 9, NO_CHAMPION, None), champion=None, unchanged=frozenset({TRAIN})),
            Step.WAIT,
            NO_CHAMPION,
        ),
    ],
)
def test_decision_table(checks: list[TriggerCheck], before: RetrainState, step: Step, triggers: str) -> None:
    decided = decide_step(checks, before)
    assert (decided.step, decided.triggers) == (step, triggers)
    assert decided.explanation


def test_the_explanation_names_the_earlier_training_and_its_verdict() -> None:
    decided = decide_step([DRIFT], state(attempt(TRAIN, 1, "drift")))
    assert decided.explanation == (
        "drift requested the training as of 2025-03-09 (shadow), less than 7 days ago"
    )
