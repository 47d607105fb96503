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
from itertools import groupby, pairwise
from typing import Any

from retail_core.features.clock import clock_parts
from retail_core.features.definitions import FeatureSet
from retail_core.features.formulas import Algebra, floats
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
    FirstSeen,
    Gap,
    Kind,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    State,
    Total,
    event_value,
)

__all__ = ["OnlineEvent", "compute_one", "online_event"]

Reader = Callable[[History, Algebra], Sequence[float]]
"""Reads features that lie together from a history and the features before them; null is NaN."""


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
    algebra = floats(values.__getitem__, feature_set.question.windows)
    for names, read in _readers(feature_set):
        values.update(zip(names, read(history, algebra), strict=True))
    row = {name: _null(values[name]) for name in feature_set.names}
    for attribute in feature_set.attributes:
        row.update(zip(attribute.columns, map(_null, attribute.encode(attributes or {})), strict=True))
    return row


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


@lru_cache(maxsize=64)
def _readers(feature_set: FeatureSet) -> tuple[tuple[tuple[str, ...], Reader], ...]:
    """What to read, in an order in which every formula finds what it uses; a kind's windows together."""
    whole = feature_set.question.windows[-1]
    found = []
    for kind, same in groupby(feature_set.plan(), key=lambda feature: feature.kind):
        features = list(same)
        lengths = tuple((feature.window or whole).micros for feature in features)
        found.append((tuple(feature.name for feature in features), _reader(kind, lengths)))
    return tuple(found)


def _reader(kind: Kind, lengths: tuple[int, ...]) -> Reader:
    if isinstance(kind, Total):
        return _total(kind, lengths)
    if isinstance(kind, Additive):
        return _windowed(kind, lengths)
    if isinstance(kind, Derived):
        return lambda _, algebra: (float(kind.formula(algebra)),)
    read = _STATES[type(kind)]
    return lambda history, _: (read(history, kind),)


def _moments(kind: Additive, history: History) -> list[int]:
    """The instants that count, ascending."""
    if isinstance(kind, Distinct):
        return history.last_seen(kind)
    if isinstance(kind, Days):
        return history.days(kind)
    if isinstance(kind, Sessions):
        return history.session_starts(kind)
    return history.times_of(kind.event_type)


def _windowed(kind: Additive, lengths: tuple[int, ...]) -> Reader:
    nothing = (0.0,) * len(lengths)

    def read(history: History, _: Algebra) -> Sequence[float]:
        times, now = _moments(kind, history), history.now
        if not times:
            return nothing
        number = len(times)
        return [float(number - bisect_left(times, now - micros)) for micros in lengths]

    return read


def _total(kind: Total, lengths: tuple[int, ...]) -> Reader:
    def read(history: History, _: Algebra) -> Sequence[float]:
        running, times, now = history.running_value(kind), history.times_of(kind.event_type), history.now
        return [float(running[-1] - running[bisect_left(times, now - micros)]) for micros in lengths]

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
