"""Conditional retraining: check the triggers, train a challenger if one fires, let the gate decide."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from retail_core.model.spec import ModelSpec
from retail_core.monitoring.triggers import TriggerCheck, check
from retail_core.registry.versions import champion_spec
from retail_core.scoring.shop_context import store_recent_context
from retail_core.training.pipeline import TrainOptions, train
from retail_core.workspace import Workspace

NO_CHAMPION = "no champion"


@dataclass(frozen=True)
class RetrainReport:
    """What was checked and what came of it.

    `version` is the challenger's; `promoted` says whether the gate put it in production; `reason` says
    why it was trained, or why not.
    """

    triggers: list[TriggerCheck]
    retrained: bool
    version: str | None
    promoted: bool
    reason: str

    def to_dict(self) -> dict[str, object]:
        """The same as plain values."""
        return asdict(self)


def retrain(work: Workspace, *, as_of: datetime, check_only: bool, at: datetime) -> RetrainReport:
    """Check the triggers at `as_of` and, unless `check_only`, train when one fires.

    A shop without a champion trains too, with the reason "no champion". A challenger goes into
    production only through the promotion gate. `at` is when this is done (aware).

    Raises:
        DataError: training was due, but the data do not allow it.
    """
    checks = check(work, as_of=as_of, at=at)
    fired = [entry.name for entry in checks if entry.fired]
    champion = champion_spec(work.settings)
    reason = ", ".join(fired) if champion else NO_CHAMPION
    if check_only or not reason:
        return RetrainReport(checks, False, None, False, reason or "no trigger fired")
    options = _as_before(champion, reason) if champion else TrainOptions(reason=reason)
    store_recent_context(work, as_of)
    trained = train(work, as_of=as_of, options=options)
    return RetrainReport(checks, True, trained.version, trained.promoted, reason)


def _as_before(champion: ModelSpec, reason: str) -> TrainOptions:
    """The champion's policies and goal; what can no longer be certified is left out, not refused."""
    goal = champion.training.get("goal", {})
    kept = {name: goal[name] for name in ("target_recall", "confidence") if name in goal}
    return TrainOptions(policies=tuple(champion.policies), reason=reason, **kept)
