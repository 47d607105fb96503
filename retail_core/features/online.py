"""The online interpreter: one user's events to the same features, in plain Python.

It shares the list of features with the batch, not its method: here the events of one user are laid
out once as sorted lists, and windows are found by bisection.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any

from retail_core.features.clock import clock_parts
from retail_core.features.definitions import FeatureSet
from retail_core.features.formulas import floats
from retail_core.features.history import History, OnlineEvent, online_event
from retail_core.features.kinds import (
    HOUR_US,
    MINUTE_US,
    Additive,
    Cart,
    Clock,
    Concentration,
    Context,
    Days,
    Derived,
    Distinct,
    Feature,
    FirstSeen,
    Gap,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    State,
    Total,
    Window,
    event_value,
)

__all__ = ["OnlineEvent", "compute_one", "online_event"]

Reader = Callable[[History, dict[str, float]], float]
"""Reads one feature from a history and the features before it; null is NaN."""


def compute_one(
    events: Sequence[OnlineEvent],
    as_of: datetime,
    feature_set: FeatureSet,
    attributes: Mapping[str, object] | None = None,
    context: Mapping[str, float | None] | None = None,
) -> dict[str, float | None]:
    """The features of one user at `as_of`, in the order of `feature_set.columns`; null is None.

    Args:
        events: the user's events in any order; of two with the same event_id the first counts; events
            at or after `as_of` or before its look-back are ignored.
        as_of: the cut-off, aware.
        feature_set: which features, of which question.
        attributes: what is known of the user at `as_of`.
        context: what is known of the shop on the local day of `as_of` (see `context`); without it
            context features are null.
    """
    history = History(events, as_of, feature_set.question, context or {})
    values: dict[str, float] = {}
    for name, read in _readers(feature_set):
        values[name] = read(history, values)
    row = {name: _null(values[name]) for name in feature_set.names}
    for attribute in feature_set.attributes:
        row.update(zip(attribute.columns, map(_null, attribute.encode(attributes or {})), strict=True))
    return row


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


@lru_cache(maxsize=64)
def _readers(feature_set: FeatureSet) -> tuple[tuple[str, Reader], ...]:
    """What to read, in an order in which every formula finds what it uses."""
    return tuple((f.name, _reader(f, feature_set.question.windows)) for f in feature_set.plan())


def _reader(feature: Feature, windows: tuple[Window, ...]) -> Reader:
    kind = feature.kind
    micros = (feature.window or windows[-1]).micros
    if isinstance(kind, Total):
        return _total(kind, micros)
    if isinstance(kind, Additive):
        return _windowed(kind, micros)
    if isinstance(kind, Derived):
        return _derived(kind, windows)
    return _state(kind)


def _state(kind: State) -> Reader:
    read = _STATES[type(kind)]
    return lambda history, _: read(history, kind)


def _moments(kind: Additive, history: History) -> list[int]:
    """The instants that count, ascending."""
    if isinstance(kind, Distinct):
        return history.last_seen(kind)
    if isinstance(kind, Days):
        return history.days(kind)
    if isinstance(kind, Sessions):
        return history.session_starts(kind)
    return history.times_of(kind.event_type)


def _windowed(kind: Additive, micros: int) -> Reader:
    def read(history: History, _: dict[str, float]) -> float:
        times = _moments(kind, history)
        return float(len(times) - bisect_left(times, history.now - micros))

    return read


def _total(kind: Total, micros: int) -> Reader:
    def read(history: History, _: dict[str, float]) -> float:
        running = history.running_value(kind)
        first = bisect_left(history.times_of(kind.event_type), history.now - micros)
        return float(running[-1] - running[first])

    return read


def _hours(history: History, moment: Sequence[int]) -> float:
    return float(history.now - moment[0]) / float(HOUR_US) if moment else math.nan


def _since(history: History, kind: Since) -> float:
    return _hours(history, history.times_of(kind.event_type)[-1:])


def _first_seen(history: History, _: FirstSeen) -> float:
    return _hours(history, history.times[:1])


def _clock(history: History, kind: Clock) -> float:
    return float(clock_parts(history.as_of, history.question.timezone)[kind.part])


def _cart(history: History, kind: Cart) -> float:
    cart = history.open_cart()
    if kind.stat == "count":
        return float(len(cart))
    if kind.stat == "value":
        return float(sum(event_value(e.price_minor, e.quantity) or 0 for e in cart))
    times = sorted(e.event_time for e in cart)
    return _hours(history, times[:1] if kind.stat == "oldest" else times[-1:])


def _context(history: History, kind: Context) -> float:
    value = history.context.get(kind.name)
    return math.nan if value is None else float(value)


def _gap(history: History, kind: Gap) -> float:
    blocks = history.blocks(kind.event_type)
    if len(blocks) < 2:
        return math.nan
    if kind.stat == "last":
        return float(blocks[1] - blocks[0])
    span, gaps = blocks[-1] - blocks[0], len(blocks) - 1
    if kind.stat == "mean":
        return float(span) / float(gaps)
    return float(sum((b - a) ** 2 for a, b in pairwise(blocks)) * gaps) / float(span * span)


def _mean_price(history: History, kind: MeanPrice) -> float:
    prices = [e.price_minor for e in history.of_type(kind.event_type) if e.price_minor is not None]
    return float(sum(prices)) / float(len(prices)) if prices else math.nan


def _last_session(history: History, kind: LastSession) -> float:
    events = history.last_session()
    if kind.stat == "events":
        return float(len(events))
    if kind.stat == "carts":
        return float(sum(e.event_type == "add_to_cart" for e in events))
    return float(events[-1].event_time - events[0].event_time) / float(MINUTE_US) if events else math.nan


def _concentration(history: History, _: Concentration) -> float:
    counts = Counter(e.category for e in history.events)
    counts.pop(None, None)
    total = sum(counts.values())
    return float(sum(n * n for n in counts.values())) / float(total * total) if total else math.nan


def _derived(kind: Derived, windows: tuple[Window, ...]) -> Reader:
    return lambda _, values: float(kind.formula(floats(values.__getitem__, windows)))


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
