"""Conditional retraining: check the triggers, then train, recalibrate or wait."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from retail_core.errors import DataError
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.next_step import RetrainState, Step, decide_step
from retail_core.monitoring.trigger_check import TriggerCheck
from retail_core.monitoring.triggers import check_triggers
from retail_core.registry.champion import champion_spec
from retail_core.scoring.shop_context import store_shop_context
from retail_core.times import last_midnight
from retail_core.training.attempt_recovery import close_interrupted
from retail_core.training.attempts import AttemptKind, AttemptRunningError, TrainingAttempt, newest_attempt
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.training.recalibration import recalibrate
from retail_core.workspace import Workspace


@dataclass(frozen=True)
class RetrainReport:
    """Trigger checks and what was done about them.

    Attributes:
        triggers: every trigger with its evidence.
        action: `retrain`, `recalibrate` or `wait`; with `check_only` what would be done.
        reason: names of the triggers that requested it, or why nothing is done.
        explanation: why this action and no other.
        retrained: whether a challenger was trained.
        recalibrated: whether the champion was recalibrated.
        version: the new version.
        promoted: whether it is in production.
        verdict: of the promotion gate on it.
        decision: the verdict in a sentence with its figures.
        ap_difference: challenger's average precision less the champion's on the same rows.
        interval: 95 % interval of that difference, or of the gain in log loss of a recalibration.
    """

    triggers: list[TriggerCheck]
    action: str
    reason: str
    explanation: str
    retrained: bool = False
    recalibrated: bool = False
    version: str | None = None
    promoted: bool = False
    verdict: str | None = None
    decision: str | None = None
    ap_difference: float | None = None
    interval: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self) | {"triggers": [check.to_dict() for check in self.triggers]}


def retrain(workspace: Workspace, *, as_of: datetime, check_only: bool, at: datetime) -> RetrainReport:
    """Check the triggers at `as_of` and, unless `check_only`, do what they request.

    Without a champion a model is trained with the reason "no champion". A training uses whole days of the
    shop. A new version goes into production only through the promotion gate. What killed trainings left is
    closed first; while another training runs, this one waits.

    Args:
        workspace: the workspace.
        as_of: events and outcomes up to this instant count, aware.
        check_only: whether only to check.
        at: time of the check, aware; stored with it.

    Raises:
        DataError: a trigger requests a training, but the data are not sufficient.
    """
    close_interrupted(workspace.store)
    checks = check_triggers(workspace, as_of=as_of, at=at)
    champion = champion_spec(workspace.store)
    state = _read_state(workspace, champion, last_midnight(as_of, workspace.zone))
    step = decide_step(checks, state)
    reason = step.explanation if step.step == Step.WAIT else step.triggers
    report = RetrainReport(checks, str(step.step), reason, step.explanation)
    if check_only or step.step == Step.WAIT:
        return report
    try:
        if step.step == Step.RECALIBRATE:
            return _recalibrated(workspace, state.as_of, report)
        return _retrained(workspace, champion, state.as_of, report)
    except AttemptRunningError as error:
        return replace(report, action=str(Step.WAIT), reason=error.message, explanation=error.message)


def _read_state(workspace: Workspace, champion: ModelSpec | None, as_of: datetime) -> RetrainState:
    attempts = {kind: newest_attempt(workspace.store, kind) for kind in AttemptKind}
    newest = {kind: attempt for kind, attempt in attempts.items() if attempt is not None}
    unchanged = {kind for kind, attempt in newest.items() if _used_same_data(workspace, attempt, as_of)}
    return RetrainState(champion.version if champion else None, as_of, newest, frozenset(unchanged))


def _used_same_data(workspace: Workspace, attempt: TrainingAttempt, as_of: datetime) -> bool:
    """Whether an attempt read the events before `as_of`; hashed only where their number is equal."""
    data = attempt.data
    if data is None or workspace.lake.state(as_of).rows != data.events:
        return False
    return data.data_hash is None or workspace.lake.hashes(as_of).data_hash == data.data_hash


def _retrained(
    workspace: Workspace, champion: ModelSpec | None, as_of: datetime, report: RetrainReport
) -> RetrainReport:
    options = _options_of(champion, report.reason) if champion else TrainOptions(reason=report.reason)
    store_shop_context(workspace)
    trained = train(workspace, as_of=as_of, options=options)
    done = replace(report, retrained=True, version=trained.version, promoted=trained.promoted)
    return _with_verdict(workspace, done)


def _recalibrated(workspace: Workspace, as_of: datetime, report: RetrainReport) -> RetrainReport:
    """The report after a recalibration; where the days do not suffice for one, nothing is done."""
    try:
        done = recalibrate(workspace, version=None, as_of=as_of, reason=report.reason)
    except DataError as error:
        explanation = f"{report.explanation}, but it is not possible yet: {error.message}"
        return replace(report, action=str(Step.WAIT), reason=explanation, explanation=explanation)
    report = replace(report, recalibrated=True, version=done.version, promoted=done.promoted)
    return _with_verdict(workspace, report)


def _with_verdict(workspace: Workspace, report: RetrainReport) -> RetrainReport:
    """The report with the verdict, as recorded with the attempt."""
    kind = AttemptKind.TRAIN if report.retrained else AttemptKind.RECALIBRATE
    attempt = newest_attempt(workspace.store, kind)
    if attempt is None or attempt.version != report.version:
        return report
    return replace(
        report,
        verdict=None if attempt.verdict is None else str(attempt.verdict),
        decision=attempt.decision,
        ap_difference=attempt.ap_difference,
        interval=attempt.interval,
    )


def _options_of(champion: ModelSpec, reason: str) -> TrainOptions:
    """The champion's policies and goal; a recall that can no longer be certified is left out, not refused."""
    goal = champion.training.get("goal", {})
    targets = {name: goal[name] for name in ("target_recall", "confidence") if name in goal}
    return TrainOptions(policies=tuple(champion.policies), reason=reason, **targets)
