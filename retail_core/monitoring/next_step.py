"""What fired triggers lead to: train, recalibrate or wait.

Separate from `retraining`, which does it: a decision on values, without a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from retail_core.monitoring.trigger_check import Action, TriggerCheck
from retail_core.registry.promotion import GateVerdict
from retail_core.training.attempts import AttemptKind, TrainingAttempt

NO_CHAMPION = "no champion"
REPEAT_PAUSE = timedelta(days=7)
"""Shortest time between the cut-offs of two trainings for the same triggers, unless the first is promoted."""


class Step(StrEnum):
    """What is done about the triggers."""

    RETRAIN = "retrain"
    RECALIBRATE = "recalibrate"
    WAIT = "wait"


@dataclass(frozen=True)
class NextStep:
    """The step.

    Attributes:
        step: what is done.
        triggers: names of the triggers that requested it, separated by commas; or `NO_CHAMPION`.
        explanation: why this step and no other.
    """

    step: Step
    triggers: str
    explanation: str


@dataclass(frozen=True)
class RetrainState:
    """What the decision depends on, besides the triggers.

    Attributes:
        champion: the version in production; None without one.
        as_of: end of the whole days that a training would use.
        newest: the newest attempt of each kind that counts (`attempts.newest_attempt`).
        unchanged: kinds whose newest attempt used exactly the data that there are now.
    """

    champion: str | None
    as_of: datetime
    newest: dict[AttemptKind, TrainingAttempt]
    unchanged: frozenset[AttemptKind]


def decide_step(checks: Sequence[TriggerCheck], state: RetrainState) -> NextStep:
    """The step that fired triggers request, if the data and the attempts so far allow it.

    A training comes before a recalibration; if it has to wait, a recalibration that is requested too is done.
    Neither is repeated on unchanged data, and a training that was not promoted is not repeated for the same
    triggers within `REPEAT_PAUSE`.
    """
    if state.champion is None:
        return _train(NO_CHAMPION, state)
    retrain, recalibrate = (_names_of(checks, action) for action in (Action.RETRAIN, Action.RECALIBRATE))
    training = _train(retrain, state) if retrain else None
    if training and (training.step == Step.RETRAIN or not recalibrate):
        return training
    if not recalibrate:
        alerts = _names_of(checks, Action.ALERT)
        explanation = (
            f"only triggers that ask for attention fired: {alerts}" if alerts else "no trigger fired"
        )
        return NextStep(Step.WAIT, "", explanation)
    recalibration = _recalibrate(recalibrate, state)
    if training is None:
        return recalibration
    explanation = f"{training.explanation}; {recalibration.explanation}"
    return NextStep(recalibration.step, recalibration.triggers, explanation)


def _names_of(checks: Sequence[TriggerCheck], action: Action) -> str:
    return ", ".join(check.name for check in checks if check.fired and check.action == action)


def _train(triggers: str, state: RetrainState) -> NextStep:
    newest = state.newest.get(AttemptKind.TRAIN)
    if newest is None:
        return NextStep(Step.RETRAIN, triggers, f"{triggers} requests a training")
    outcome = f"the training as of {newest.as_of:%Y-%m-%d} ({newest.verdict or newest.state})"
    if AttemptKind.TRAIN in state.unchanged:
        explanation = f"{triggers} requests a training, but {outcome} used the same data"
        return NextStep(Step.WAIT, triggers, explanation)
    if _was_answered(triggers, newest) and state.as_of - newest.as_of < REPEAT_PAUSE:
        explanation = f"{triggers} requested {outcome}, less than {REPEAT_PAUSE.days} days ago"
        return NextStep(Step.WAIT, triggers, explanation)
    return NextStep(Step.RETRAIN, triggers, f"{triggers} requests a training")


def _was_answered(triggers: str, newest: TrainingAttempt) -> bool:
    """Whether the newest training was for all of these triggers, without a version in production."""
    return newest.verdict != GateVerdict.PROMOTED and _split(triggers) <= _split(newest.reason)


def _split(triggers: str) -> set[str]:
    return {name.strip() for name in triggers.split(",")}


def _recalibrate(triggers: str, state: RetrainState) -> NextStep:
    if AttemptKind.RECALIBRATE in state.unchanged:
        explanation = f"{triggers} requests a recalibration, but the newest one used the same data"
        return NextStep(Step.WAIT, triggers, explanation)
    return NextStep(Step.RECALIBRATE, triggers, f"{triggers} requests a recalibration")
