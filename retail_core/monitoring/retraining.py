"""Conditional retraining: check the triggers, train a challenger if one fires."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from retail_core.model.spec import ModelSpec
from retail_core.monitoring.trigger_check import TriggerCheck
from retail_core.monitoring.triggers import check_triggers
from retail_core.registry.champion import champion_spec
from retail_core.scoring.shop_context import store_shop_context
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.workspace import Workspace

NO_CHAMPION = "no champion"


@dataclass(frozen=True)
class RetrainReport:
    """Trigger checks and the result of the training, if there was one.

    Attributes:
        triggers: every trigger with its evidence.
        retrained: whether a challenger was trained.
        version: version of the challenger.
        promoted: whether the promotion gate put it in production.
        reason: why a challenger was trained, or why not.
    """

    triggers: list[TriggerCheck]
    retrained: bool
    version: str | None
    promoted: bool
    reason: str

    def to_dict(self) -> dict[str, object]:
        """The fields as a dictionary."""
        return asdict(self)


def retrain(workspace: Workspace, *, as_of: datetime, check_only: bool, at: datetime) -> RetrainReport:
    """Check the triggers at `as_of` and, unless `check_only`, train a challenger if one fires.

    Without a champion a model is trained with the reason "no champion". A challenger goes into production
    only through the promotion gate.

    Args:
        workspace: the workspace.
        as_of: events and outcomes up to this instant count, aware.
        check_only: whether only to check.
        at: time of the check, aware; stored with it.

    Raises:
        DataError: a trigger fired, but the data are not sufficient for a training.
    """
    checks = check_triggers(workspace, as_of=as_of, at=at)
    fired = [check.name for check in checks if check.fired]
    champion = champion_spec(workspace.store)
    reason = ", ".join(fired) if champion else NO_CHAMPION
    if check_only or not reason:
        return RetrainReport(checks, False, None, False, reason or "no trigger fired")
    options = _options_of(champion, reason) if champion else TrainOptions(reason=reason)
    store_shop_context(workspace)
    trained = train(workspace, as_of=as_of, options=options)
    return RetrainReport(checks, True, trained.version, trained.promoted, reason)


def _options_of(champion: ModelSpec, reason: str) -> TrainOptions:
    """The champion's policies and goal; a recall that can no longer be certified is left out, not refused."""
    goal = champion.training.get("goal", {})
    targets = {name: goal[name] for name in ("target_recall", "confidence") if name in goal}
    return TrainOptions(policies=tuple(champion.policies), reason=reason, **targets)
