"""Verdicts on shadows: promote a challenger that is ahead, roll back a champion that is worse than before.

Judging may be killed at any instant, repeated, and run in several processes at once: promotion and rollback
are decided by the promotion record, which a second judgement finds changed, and a shadow ends once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from retail_core.errors import DataError, IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.online_answers import online_days
from retail_core.monitoring.paired_comparison import ALPHA, PairedComparison, compare
from retail_core.monitoring.shadow_days import ShadowDay, matured_days, unseen_from
from retail_core.registry import shadow_record
from retail_core.registry.promotion import Author, GateVerdict, PromotionDecision, promote_on, rollback
from retail_core.registry.shadow_record import Role, Shadow, Verdict
from retail_core.registry.versions import version_spec
from retail_core.store.mongo.connection import Document, Store
from retail_core.times import to_utc_ms, zone
from retail_core.workspace import Workspace

ROLLBACK_MARGIN = 0.02
"""Share of the champion's log loss by which it must be worse than the version before to be rolled back.

Two trainings of the same procedure differ by about 1 % of their log loss; such a difference becomes
significant within weeks, and is no reason to go back to the older model.
"""

ACTOR = "retail (automatic)"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """The state of a shadow after its matured days.

    Attributes:
        verdict: how it ends; None while it goes on.
        decision: the reason, with the figures.
        comparison: the figures.
    """

    verdict: Verdict | None
    decision: str
    comparison: PairedComparison


@dataclass(frozen=True)
class ShadowReport:
    """What the judgement of one shadow has done.

    Attributes:
        version: the version that shadows.
        champion: the version that was in production.
        role: challenger or previous.
        verdict: how it ended; None while it goes on.
        decision: the reason, with the figures.
        source: `lists` or `online answers`, whichever the days are of.
        days: number of matured days compared.
        difference: mean log loss of the champion minus that of the shadow.
        interval: of the difference, at all days at once with probability 1 - `ALPHA`.
    """

    version: str
    champion: str
    role: str
    verdict: str | None
    decision: str
    source: str
    days: int
    difference: float | None
    interval: tuple[float, float] | None


def judge(role: Role, days: Sequence[ShadowDay], *, max_days: int, until: date) -> Judgement:
    """Judge a shadow on its matured days.

    A challenger is promoted when the interval of the difference of log loss lies above zero. A version that
    was in production before returns when the interval lies above `ROLLBACK_MARGIN` of the champion's log
    loss. Both end when the interval lies below zero, and when `max_days` have been compared or have passed
    since the first one.

    Args:
        role: why the version shadows.
        days: matured days, oldest first.
        max_days: the longest comparison.
        until: local day of the judgement.
    """
    used = days[:max_days]
    comparison = compare([day.difference for day in used])
    figures = describe_comparison(comparison)
    over = bool(used) and (len(used) >= max_days or until - used[0].day > timedelta(days=max_days))
    low, high = comparison.interval or (float("-inf"), float("inf"))
    margin = ROLLBACK_MARGIN * (comparison.champion_loss or 0.0) if role is Role.PREVIOUS else 0.0
    if low > margin:
        verdict = Verdict.ROLLED_BACK if role is Role.PREVIOUS else Verdict.PROMOTED
        return Judgement(verdict, f"better than the champion: {figures}", comparison)
    if high < 0:
        return Judgement(Verdict.BEHIND, f"worse than the champion: {figures}", comparison)
    if over:
        return Judgement(Verdict.UNDECIDED, f"no difference within {max_days} days: {figures}", comparison)
    return Judgement(None, figures, comparison)


def describe_comparison(comparison: PairedComparison) -> str:
    """The figures of a comparison in words."""
    population = (
        f"{comparison.days} matured days, {comparison.rows:,} predictions, {comparison.buyers:,} buyers"
    )
    if comparison.difference is None or comparison.interval is None:
        return f"insufficient data: {population}"
    low, high = comparison.interval
    return (
        f"log loss lower by {comparison.difference:.5f} (always-valid {1 - ALPHA:.1%} interval {low:.5f} to "
        f"{high:.5f}) than {comparison.champion_loss:.5f} on {population}"
    )


def judge_shadows(workspace: Workspace, *, as_of: datetime) -> list[ShadowReport]:
    """Judge each running shadow on what has matured at `as_of` (aware), and carry out the verdicts.

    Call it after `mature_predictions`. A shadow whose version cannot be read is ended as refused.

    Raises:
        DependencyError: MLflow is unreachable.
        IntegrityError: the promotion record is damaged.
    """
    store, reports = workspace.store, []
    for shadow in shadow_record.running_shadows(store):
        try:
            reports.append(_judge(workspace, shadow, to_utc_ms(as_of)))
        except (DataError, IntegrityError) as error:
            # Where production has changed meanwhile, the shadow ends with the champion it was compared with.
            shadow_record.follow_promotions(store)
            if shadow_record.end_shadow(store, shadow.number, Verdict.REFUSED, error.message):
                log.warning("Version %s no longer shadows %s: %s", shadow.version, shadow.champion, error)
    return reports


def _judge(workspace: Workspace, shadow: Shadow, instant: datetime) -> ShadowReport:
    store = workspace.store
    champion, other = (version_spec(store.settings, v) for v in (shadow.champion, shadow.version))
    source, days = _days(workspace, shadow, champion, unseen_from(champion, other), instant)
    today = instant.astimezone(zone(champion.feature_set.task.timezone)).date()
    judgement = judge(shadow.role, days, max_days=store.settings.shadow_days, until=today)
    evidence = _evidence(judgement.comparison, source)
    shadow_record.store_progress(store, shadow, [day.to_document() for day in days], evidence)
    verdict, decision = judgement.verdict, judgement.decision
    if verdict is Verdict.ROLLED_BACK and not store.settings.auto_rollback:
        verdict, decision = None, f"not rolled back, since RETAIL_AUTO_ROLLBACK is off; {decision}"
    if verdict is not None:
        decision = f"version {shadow.version} is {decision}"
        _carry_out(store, shadow, verdict, decision, evidence)
    comparison = judgement.comparison
    return ShadowReport(
        version=shadow.version,
        champion=shadow.champion,
        role=shadow.role,
        verdict=verdict,
        decision=decision,
        source=source,
        days=comparison.days,
        difference=comparison.difference,
        interval=comparison.interval,
    )


def _days(
    workspace: Workspace, shadow: Shadow, champion: ModelSpec, since: datetime, until: datetime
) -> tuple[str, list[ShadowDay]]:
    """The matured days of daily lists; those of online answers for shops that make no lists."""
    days = matured_days(workspace.store, shadow, champion, since, until)
    return ("lists", days) if days else ("online answers", online_days(workspace, shadow, champion, until))


def _carry_out(store: Store, shadow: Shadow, verdict: Verdict, decision: str, evidence: Document) -> None:
    """Change production as the verdict says, then end the shadow."""
    figures = {"champion": shadow.champion, "shadow": shadow.number, **evidence}
    if verdict is Verdict.PROMOTED:
        promote_on(
            store, shadow.version, PromotionDecision(GateVerdict.PROMOTED, f"shadow: {decision}", figures)
        )
    elif verdict is Verdict.ROLLED_BACK:
        author = Author(f"automatic rollback: {decision}", ACTOR, evidence=figures)
        rollback(store, author, expected=shadow.champion)
    shadow_record.end_shadow(store, shadow.number, verdict, decision, evidence)


def _evidence(comparison: PairedComparison, source: str) -> Document:
    """The figures as stored with the shadow and in the promotion record."""
    return {
        "source": source,
        "days": comparison.days,
        "rows": comparison.rows,
        "buyers": comparison.buyers,
        "log_loss_difference": comparison.difference,
        "interval": None if comparison.interval is None else list(comparison.interval),
        "champion_log_loss": comparison.champion_loss,
        "dispersion": comparison.dispersion,
        "alpha": ALPHA,
    }
