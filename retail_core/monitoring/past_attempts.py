"""Past training attempts as the triggers need them: since when data are new, since when evidence counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from retail_core.model.spec import ModelSpec
from retail_core.monitoring.trigger_check import Action
from retail_core.registry.promotion import GateVerdict
from retail_core.store.mongo.connection import Store
from retail_core.times import parse_instant
from retail_core.training.attempts import AttemptKind, TrainingAttempt, conclusive_attempts


@dataclass(frozen=True)
class PastAttempt:
    """One training or recalibration that learned from its data, or failed because of them.

    Attributes:
        kind: what was tried.
        as_of: cut-off of its data, UTC.
        events: number of events before `as_of`.
        data_hash: of these events.
        reason: names of the triggers that requested it, or another text.
        promoted: whether its version went into production.
        label: how evidence names it.
    """

    kind: AttemptKind
    as_of: datetime
    events: int
    data_hash: str | None
    reason: str
    promoted: bool
    label: str

    def was_requested_by(self, trigger: str) -> bool:
        """Whether that trigger is among the reasons."""
        return trigger in {part.strip() for part in self.reason.split(",")}


def past_attempts(store: Store, champion: ModelSpec) -> list[PastAttempt]:
    """Conclusive attempts by cut-off; the training of the champion where no training is recorded."""
    attempts = [_past_attempt(attempt) for attempt in conclusive_attempts(store) if attempt.data]
    if not any(attempt.kind == AttemptKind.TRAIN for attempt in attempts):
        attempts.append(_training_of(champion))
    return sorted(attempts, key=lambda attempt: attempt.as_of)


def newest_training(attempts: Sequence[PastAttempt]) -> PastAttempt:
    """The training with the latest cut-off; `attempts` has at least one, as `past_attempts` ensures."""
    return max(
        (attempt for attempt in attempts if attempt.kind == AttemptKind.TRAIN),
        key=lambda attempt: attempt.as_of,
    )


def evidence_start(attempts: Sequence[PastAttempt], trigger: str) -> datetime | None:
    """Since when days count as evidence of a trigger; None: all.

    A training that the trigger requested, promoted or not, and a promoted recalibration that it requested
    have answered the evidence before them. Promotions for other reasons do not end it, so that frequent
    trainings do not starve the test.
    """
    answered = [
        attempt.as_of
        for attempt in attempts
        if attempt.was_requested_by(trigger) and (attempt.kind == AttemptKind.TRAIN or attempt.promoted)
    ]
    return max(answered, default=None)


def calibration_action(attempts: Sequence[PastAttempt], first_day: datetime | None) -> Action:
    """Recalibrate, unless a recalibration was tried on these days or shortly before: then retrain.

    Args:
        attempts: past attempts.
        first_day: cut-off of the first day of the evidence; None without evidence.
    """
    tried = [attempt.as_of for attempt in attempts if attempt.kind == AttemptKind.RECALIBRATE]
    trained = newest_training(attempts).as_of
    since = max(trained, first_day) if first_day else trained
    return Action.RETRAIN if any(as_of >= since for as_of in tried) else Action.RECALIBRATE


def _past_attempt(attempt: TrainingAttempt) -> PastAttempt:
    return PastAttempt(
        kind=attempt.kind,
        as_of=attempt.as_of,
        events=attempt.data.events if attempt.data else 0,
        data_hash=attempt.data.data_hash if attempt.data else None,
        reason=attempt.reason,
        promoted=attempt.verdict == GateVerdict.PROMOTED,
        label=f"the {attempt.kind} attempt of {attempt.as_of:%Y-%m-%d}",
    )


def _training_of(champion: ModelSpec) -> PastAttempt:
    """The training that made the champion, from its specification."""
    return PastAttempt(
        kind=AttemptKind.TRAIN,
        as_of=parse_instant(champion.data["as_of"]),
        events=int(champion.data["events"]),
        data_hash=str(champion.data["data_hash"]),
        reason="",
        promoted=True,
        label=f"the training of version {champion.version}",
    )
