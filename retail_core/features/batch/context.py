"""What is known of the shop when a local day begins: context features.

For a cut-off on local day D they see the whole days before D, `CONTEXT_DAYS` at most, and nothing of D
itself, so that they are the same for every cut-off of the day: the ingest flow, `train` and `score` store
them by day, and the service looks them up.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import ibis
import numpy as np
import pyarrow
from ibis.expr.types import Table

from retail_core.features.batch.engine import DUCKDB, Engine, EngineOptions, open_engine
from retail_core.features.kinds import MINUTE_US
from retail_core.features.question import Question
from retail_core.features.reader import LakeReader, to_micros
from retail_core.features.shop_measures import CONTEXT_DAYS, Values
from retail_core.log_coverage import closed_weekdays, covered_days
from retail_core.times import zone

_QUARTER_US = 15 * MINUTE_US
_ONE = timedelta(days=1)
_EPOCH = date(1970, 1, 1)
_RECENT_DAYS = 7


@dataclass(frozen=True)
class ShopDay:
    """One local day of the shop.

    Attributes:
        events: of all users.
        buyers: distinct users with a purchase.
        eligible: users with an event in the `eligible_days` local days before it.
        eligible_buyers: buyers among them.
    """

    events: int = 0
    buyers: int = 0
    eligible: int = 0
    eligible_buyers: int = 0


def shop_on(
    lake: LakeReader, question: Question, days: Collection[date], engine: EngineOptions = DUCKDB
) -> dict[date, Values]:
    """`contexts` with an engine of its own."""
    with open_engine(engine) as running:
        return contexts(running, lake, question, days)


def contexts(
    engine: Engine, lake: LakeReader, question: Question, days: Collection[date]
) -> dict[date, Values]:
    """Context features of each local day, from events before it alone."""
    if not days:
        return {}
    first = min(days) - _ONE * (CONTEXT_DAYS + question.eligible_days)
    shop = _shop_days(engine, lake, question, (first, max(days)))
    return {day: _describe(day, shop) for day in days}


def _describe(day: date, shop: Mapping[date, ShopDay]) -> Values:
    reach = {day - _ONE * n for n in range(1, CONTEXT_DAYS + 1)}
    log = covered_days({d: shop[d].events for d in reach if d in shop and shop[d].events})
    if not log:
        return {}
    past = [log[0] + _ONE * n for n in range((day - log[0]).days)]
    known = {d: shop.get(d, ShopDay()) for d in past}
    alike = [d for d in past if d.weekday() == day.weekday()]
    yesterday = past[-1]
    usual = _rate(known[d] for d in alike)
    closed = closed_weekdays(past, [d for d in past if not known[d].events])
    return {
        "buyers_yesterday": float(known[yesterday].buyers),
        "buyers_usual": _mean([known[d].buyers for d in alike]),
        "rate_usual": usual,
        "rate_recent": _rate(known[d] for d in past[-_RECENT_DAYS:]),
        "weekday_index": _ratio(usual, _rate(known.values())),
        "demand_yesterday": _ratio(
            float(known[yesterday].buyers),
            _mean([known[d].buyers for d in past[:-1] if d.weekday() == yesterday.weekday()]),
        ),
        "closed": float(day.weekday() in closed),
    }


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _mean(values: Sequence[int]) -> float:
    return _ratio(float(sum(values)), float(len(values)))


def _rate(days: Iterable[ShopDay]) -> float:
    pairs = [(day.eligible_buyers, day.eligible) for day in days]
    return _ratio(float(sum(bought for bought, _ in pairs)), float(sum(asked for _, asked in pairs)))


def _shop_days(
    engine: Engine, lake: LakeReader, question: Question, span: tuple[date, date]
) -> dict[date, ShopDay]:
    """Every local day of [first, end) with an event or an eligible user."""
    first, end = span
    days = engine.keep(_user_days(engine, lake, question, span))
    per_user = ibis.window(group_by="user_id", order_by="day")
    days = days.mutate(prev=days.day.lag().over(per_user), next=days.day.lead().over(per_user))
    # Said aloud, since Spark sums nulls to null where DuckDB counts none.
    reach, known = question.eligible_days, days.prev.notnull()
    totals = days.group_by("day").agg(
        events=days.n.sum(),
        active=days.count(),
        buyers=days.count(where=days.bought),
        eligible_buyers=days.count(where=days.bought & known & (days.day - days.prev <= reach)),
    )
    # A day with an event makes its user eligible until the next such day, or for the window's length.
    ends = days.group_by(day=ibis.least(days.next, days.day + reach) + 1).agg(users=days.count())
    by_day = {row["day"]: row for row in engine.fetch(totals).to_pylist()}
    leaving = Counter({row["day"]: row["users"] for row in engine.fetch(ends).to_pylist()})
    shop, eligible = {}, 0
    for number in range((first - _EPOCH).days, (end - _EPOCH).days):
        eligible += by_day.get(number - 1, {}).get("active", 0) - leaving[number]
        row = by_day.get(number, {})
        counts = (row.get(name, 0) for name in ("events", "buyers", "eligible_buyers"))
        events, buyers, eligible_buyers = (int(count) for count in counts)
        shop[_EPOCH + _ONE * number] = ShopDay(events, buyers, eligible, eligible_buyers)
    return shop


def _user_days(engine: Engine, lake: LakeReader, question: Question, span: tuple[date, date]) -> Table:
    """One row per user and local day (since 1970) with an event: n, bought."""
    tz = zone(question.timezone)
    start, end = (datetime(day.year, day.month, day.day, tzinfo=tz).astimezone(UTC) for day in span)
    events = engine.events(lake, start, end)
    # Since 1990 every zone keeps to quarters of an hour.
    quarters = np.arange(to_micros(start) // _QUARTER_US, to_micros(end) // _QUARTER_US)
    day = np.searchsorted(_midnights(span, question), quarters * _QUARTER_US, side="right") - 1
    calendar = pyarrow.table({"quarter": quarters, "day": day + (span[0] - _EPOCH).days})
    # Selected by name: the lake's folders may add a column `day`.
    placed = events.select("user_id", "event_type", quarter=(events.ts // _QUARTER_US).cast("int64"))
    placed = placed.join(engine.table(calendar), "quarter")
    return placed.group_by(["user_id", "day"]).agg(
        n=placed.count(), bought=(placed.event_type == "purchase").any()
    )


def _midnights(span: tuple[date, date], question: Question) -> list[int]:
    tz = zone(question.timezone)
    days = (span[0] + _ONE * n for n in range((span[1] - span[0]).days))
    return [to_micros(datetime(day.year, day.month, day.day, tzinfo=tz)) for day in days]
