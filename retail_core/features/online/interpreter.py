"""The online interpreter: one user's events to the same features, in plain Python.

It shares the list of features with the batch, not its method: here the events of one user are laid
out once as sorted columns, and windows are found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby, pairwise
from math import isnan, nan
from typing import Any, NamedTuple

from retail_core.features.definitions import FeatureSet
from retail_core.features.formulas import compiled
from retail_core.features.kinds import (
    HOUR_US,
    MINUTE_US,
    Additive,
    Cart,
    Clock,
    Concentration,
    Context,
    Count,
    Days,
    Derived,
    Distinct,
    FirstSeen,
    Gap,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    State,
    Total,
    event_value,
)
from retail_core.features.online.columns import Columns, OnlineEvent, online_event
from retail_core.features.online.history import History

__all__ = ["Columns", "OnlineEvent", "compute_one", "compute_values", "online_event"]


def compute_one(
    events: Sequence[OnlineEvent],
    as_of: datetime,
    feature_set: FeatureSet,
    attributes: Mapping[str, object] | None = None,
    context: Mapping[str, float | None] | None = None,
) -> dict[str, float | None]:
    """The features of one user at `as_of`, in the order of `feature_set.columns`; null is None.

    Arguments as of `compute_values`.
    """
    row = compute_values(events, as_of, feature_set, attributes, context)
    columns = _plan(feature_set).columns
    return {name: None if isnan(value) else value for name, value in zip(columns, row, strict=True)}


def compute_values(
    events: Sequence[OnlineEvent] | Columns,
    as_of: datetime,
    feature_set: FeatureSet,
    attributes: Mapping[str, object] | None = None,
    context: Mapping[str, float | None] | None = None,
) -> list[float]:
    """The features of one user at `as_of`, in the order of `feature_set.columns`; null is NaN.

    Args:
        events: the user's events in any order; of two with the same event_id the first counts; events
            at or after `as_of` or before its look-back are ignored.
        as_of: the cut-off, aware.
        feature_set: which features, of which question.
        attributes: what is known of the user at `as_of`.
        context: what is known of the shop on the local day of `as_of` (see `context`); without it
            context features are null.
    """
    plan = _plan(feature_set)
    columns = events if isinstance(events, Columns) else Columns.of(events)
    history = History(columns, as_of, feature_set.question, context or {})
    values: dict[str, float] = {}
    for windowed, additive, wanted in plan.windowed:
        found = windowed(history, additive)
        for name, window in wanted:
            values[name] = found[window]
    for name, kind, state in plan.states:
        values[name] = state(history, kind)
    for name, formula in plan.formulas:
        values[name] = formula(values)
    row = [values[name] for name in feature_set.names]
    for attribute in feature_set.attributes:
        row += attribute.encode(attributes or {})
    return row


class _Plan(NamedTuple):
    """How to read a set of features; formulas come last, in an order in which each finds what it uses."""

    columns: tuple[str, ...]
    windowed: list[tuple[Callable[[History, Any], list[float]], Additive, list[tuple[str, int]]]]
    states: list[tuple[str, State, Callable[[History, Any], float]]]
    formulas: list[tuple[str, Callable[[dict[str, float]], float]]]


@lru_cache(maxsize=64)
def _plan(feature_set: FeatureSet) -> _Plan:
    plan = _Plan(feature_set.columns, [], [], [])
    windows = feature_set.question.windows
    for kind, same in groupby(feature_set.plan(), key=lambda feature: feature.kind):
        features = list(same)
        if isinstance(kind, Derived):
            plan.formulas.extend((feature.name, compiled(kind.formula, windows)) for feature in features)
        elif isinstance(kind, Additive):
            wanted = [(feature.name, windows.index(feature.window or windows[-1])) for feature in features]
            plan.windowed.append((_WINDOWED[type(kind)], kind, wanted))
        else:
            plan.states.extend((feature.name, kind, _STATES[type(kind)]) for feature in features)
    return plan


def _count(history: History, kind: Count) -> list[float]:
    *places, end = history.places(kind.event_type)
    return [float(end - place) for place in places]


def _total(history: History, kind: Total) -> list[float]:
    running = history.running_value(kind.event_type)
    *places, end = history.places(kind.event_type)
    return [float(running[end] - running[place]) for place in places]


def _distinct(history: History, kind: Distinct) -> list[float]:
    keys, seen, found = history.keys(kind), set[str | None](), []
    *places, end = history.places(kind.event_type)
    for place in places:
        seen.update(keys[place:end])
        found.append(float(len(seen) - (None in seen)))
        end = place
    return found


def _days(history: History, kind: Days) -> list[float]:
    blocks = history.blocks(kind.event_type)
    wanted = [block for block in blocks if block % 7 == 6] if kind.weekday else blocks
    return [float(bisect_right(wanted, last)) for last in history.last_blocks]


def _sessions(history: History, kind: Sessions) -> list[float]:
    starts = history.session_starts(kind.gap_us)
    number = len(starts)
    return [float(number - bisect_left(starts, edge)) for edge in history.edges]


_WINDOWED: dict[type[Additive], Callable[[History, Any], list[float]]] = {
    Count: _count,
    Total: _total,
    Distinct: _distinct,
    Days: _days,
    Sessions: _sessions,
}
"""Each kind over all windows of the question, ascending."""


def _hours(history: History, moment: int) -> float:
    return float(history.now - moment) / float(HOUR_US)


def _since(history: History, kind: Since) -> float:
    last = history.last_time(kind.event_type)
    return nan if last is None else _hours(history, last)


def _first_seen(history: History, _: FirstSeen) -> float:
    return _hours(history, history.times[0]) if history.times else nan


def _clock(history: History, kind: Clock) -> float:
    return float(history.clock()[kind.part])


def _cart(history: History, kind: Cart) -> float:
    cart = history.open_cart()
    if kind.stat == "count":
        return float(len(cart))
    if kind.stat == "value":
        return float(sum(event_value(price, quantity) or 0 for *_, price, quantity in cart))
    if not cart:
        return nan
    end = min if kind.stat == "oldest" else max
    return _hours(history, end(cart)[0])


def _context(history: History, kind: Context) -> float:
    value = history.context.get(kind.name)
    return nan if value is None else float(value)


def _gap(history: History, kind: Gap) -> float:
    blocks = history.blocks(kind.event_type)
    if len(blocks) < 2:
        return nan
    if kind.stat == "last":
        return float(blocks[1] - blocks[0])
    span, gaps = blocks[-1] - blocks[0], len(blocks) - 1
    if kind.stat == "mean":
        return float(span) / float(gaps)
    return float(sum((b - a) ** 2 for a, b in pairwise(blocks)) * gaps) / float(span * span)


def _mean_price(history: History, kind: MeanPrice) -> float:
    prices = [price for price in history.column(kind.event_type, "price_minor") if price is not None]
    return float(sum(prices)) / float(len(prices)) if prices else nan


def _last_session(history: History, kind: LastSession) -> float:
    session = history.last_session()
    if kind.stat == "events":
        return float(session.stop - session.start)
    if kind.stat == "carts":
        return float(history.column(None, "event_type")[session].count("add_to_cart"))
    times = history.times[session]
    return float(times[-1] - times[0]) / float(MINUTE_US) if times else nan


def _concentration(history: History, _: Concentration) -> float:
    counts = Counter(history.column(None, "category"))
    counts.pop(None, None)
    total = sum(counts.values())
    return float(sum(n * n for n in counts.values())) / float(total * total) if total else nan


_STATES: dict[type[State], Callable[[History, Any], float]] = {
    Since: _since,
    FirstSeen: _first_seen,
    Gap: _gap,
    MeanPrice: _mean_price,
    LastSession: _last_session,
    Concentration: _concentration,
    Cart: _cart,
    Clock: _clock,
    Context: _context,
}
