"""Context features: the state of the shop when a local day begins, from all users' events before it.

For a cut-off on local day D they use the complete days before D, `CONTEXT_DAYS` at most and without outages
(`log_coverage.classify_silent_days`), and nothing of D itself, so that they are equal for every cut-off of
the day: whatever stores events also stores them by day (`scoring.shop_context`), and the service looks them
up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import ibis
from ibis.expr.types import Table

from retail_core.features.cutoff_context import CONTEXT_DAYS, ContextFeatures
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, QueryEngine, open_engine
from retail_core.features.local_days import EPOCH_DAY, events_by_local_day
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import QuietDays, classify_silent_days, covered_days

_ONE_DAY = timedelta(days=1)
_RECENT_DAYS = 7


@dataclass(frozen=True)
class ShopDay:
    """Counts of one local day of the shop.

    Attributes:
        events: of all users.
        active: distinct users with an event.
        buyers: distinct users with a purchase.
        eligible: users with an event in the `eligible_days` local days before it.
        eligible_buyers: buyers among the eligible users.
    """

    events: int = 0
    active: int = 0
    buyers: int = 0
    eligible: int = 0
    eligible_buyers: int = 0


def context_by_day(
    lake: LakeReader, task: PredictionTask, days: Collection[date], engine: EngineOptions = DUCKDB
) -> dict[date, ContextFeatures]:
    """Context features of each local day, from events before it alone; opens an engine."""
    with open_engine(engine) as query_engine:
        return compute_context_features(query_engine, lake, task, days)


def compute_context_features(
    engine: QueryEngine, lake: LakeReader, task: PredictionTask, days: Collection[date]
) -> dict[date, ContextFeatures]:
    """Context features of each local day, from events before it alone."""
    if not days:
        return {}
    first = min(days) - _ONE_DAY * (CONTEXT_DAYS + task.eligible_days)
    shop_days = _shop_days(engine, lake, task, (first, max(days)))
    return {day: _context_features(day, shop_days, task.quiet_days) for day in days}


def _context_features(day: date, shop_days: Mapping[date, ShopDay], quiet_days: QuietDays) -> ContextFeatures:
    reach = {day - _ONE_DAY * n for n in range(1, CONTEXT_DAYS + 1)}
    log_days = covered_days({d: shop_days[d].events for d in reach if d in shop_days and shop_days[d].events})
    if not log_days:
        return {}
    past = [log_days[0] + _ONE_DAY * n for n in range((day - log_days[0]).days)]
    days = {d: shop_days.get(d, ShopDay()) for d in past}
    silent_days = classify_silent_days(past, {d: days[d].active for d in past}, quiet_days)
    recorded = [d for d in past if d not in silent_days.outages]
    same_weekday = [d for d in recorded if d.weekday() == day.weekday()]
    yesterday = past[-1]
    buyers_yesterday = math.nan if yesterday in silent_days.outages else float(days[yesterday].buyers)
    usual_rate = _buyer_rate(days[d] for d in same_weekday)
    return {
        "buyers_yesterday": buyers_yesterday,
        "buyers_usual": _mean([days[d].buyers for d in same_weekday]),
        "rate_usual": usual_rate,
        "rate_recent": _buyer_rate(days[d] for d in past[-_RECENT_DAYS:] if d in recorded),
        "weekday_index": _ratio(usual_rate, _buyer_rate(days[d] for d in recorded)),
        "demand_yesterday": _ratio(
            buyers_yesterday,
            _mean([days[d].buyers for d in recorded if d < yesterday and d.weekday() == yesterday.weekday()]),
        ),
        "closed": float(day.weekday() in silent_days.closed_weekdays),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _mean(values: Sequence[int]) -> float:
    return _ratio(float(sum(values)), float(len(values)))


def _buyer_rate(days: Iterable[ShopDay]) -> float:
    """Buyers among the eligible over the eligible, summed over days."""
    counts = [(day.eligible_buyers, day.eligible) for day in days]
    return _ratio(float(sum(buyers for buyers, _ in counts)), float(sum(eligible for _, eligible in counts)))


def _shop_days(
    engine: QueryEngine, lake: LakeReader, task: PredictionTask, span: tuple[date, date]
) -> dict[date, ShopDay]:
    """Counts of every local day of [first, end)."""
    first, end = span
    days = engine.materialize(_user_days(engine, lake, task, span))
    per_user = ibis.window(group_by="user_id", order_by="day")
    days = days.mutate(prev=days.day.lag().over(per_user), next=days.day.lead().over(per_user))
    # `notnull` is explicit, since Spark sums nulls to null where DuckDB counts none.
    reach, has_prev = task.eligible_days, days.prev.notnull()
    totals = days.group_by("day").agg(
        events=days.n.sum(),
        active=days.count(),
        buyers=days.count(where=days.bought),
        eligible_buyers=days.count(where=days.bought & has_prev & (days.day - days.prev <= reach)),
    )
    # A day with an event makes its user eligible until the next such day, or for the window's length.
    eligibility_ends = days.group_by(day=ibis.least(days.next, days.day + reach) + 1).agg(users=days.count())
    totals_by_day = {row["day"]: row for row in engine.to_arrow(totals).to_pylist()}
    no_longer_eligible = Counter(
        {row["day"]: row["users"] for row in engine.to_arrow(eligibility_ends).to_pylist()}
    )
    shop_days, eligible = {}, 0
    for number in range((first - EPOCH_DAY).days, (end - EPOCH_DAY).days):
        eligible += totals_by_day.get(number - 1, {}).get("active", 0) - no_longer_eligible[number]
        row = totals_by_day.get(number, {})
        counts = (row.get(name, 0) for name in ("events", "active", "buyers", "eligible_buyers"))
        events, active, buyers, eligible_buyers = (int(count) for count in counts)
        shop_days[EPOCH_DAY + _ONE_DAY * number] = ShopDay(events, active, buyers, eligible, eligible_buyers)
    return shop_days


def _user_days(engine: QueryEngine, lake: LakeReader, task: PredictionTask, span: tuple[date, date]) -> Table:
    """One row per user and local day (days since 1970) with an event: n, bought."""
    with_day = events_by_local_day(engine, lake, span, task.timezone)
    return with_day.group_by(["user_id", "day"]).agg(
        n=with_day.count(), bought=(with_day.event_type == "purchase").any()
    )
