"""The online interpreter: the same features as the batch, of one user at one instant, in plain Python.

It shares the list of features with the batch, not its method: the events of one user are laid out once as
sorted columns, and windows are found by binary search.
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

from retail_core.features.event_columns import EventColumns, OnlineEvent
from retail_core.features.feature_set import FeatureSet
from retail_core.features.formula_algebra import CompiledFormula, compile_formula
from retail_core.features.kinds import (
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
    Windowed,
    event_value,
)
from retail_core.features.online.user_history import UserHistory
from retail_core.features.time_windows import HOUR_US, MINUTE_US


def compute_user_features(
    events: Sequence[OnlineEvent],
    as_of: datetime,
    feature_set: FeatureSet,
    attributes: Mapping[str, object] | None = None,
    context: Mapping[str, float | None] | None = None,
) -> dict[str, float | None]:
    """The features of one user at `as_of`, in the order of `feature_set.columns`; null is None.

    Arguments as of `compute_user_values`.
    """
    row = compute_user_values(events, as_of, feature_set, attributes, context)
    columns = _plan(feature_set).columns
    return {name: None if isnan(value) else value for name, value in zip(columns, row, strict=True)}


def compute_user_values(
    events: Sequence[OnlineEvent] | EventColumns,
    as_of: datetime,
    feature_set: FeatureSet,
    attributes: Mapping[str, object] | None = None,
    context: Mapping[str, float | None] | None = None,
) -> list[float]:
    """The features of one user at `as_of`, in the order of `feature_set.columns`; null is NaN.

    Args:
        events: the user's events in any order; of events with the same event_id the first counts; events
            at or after `as_of` or before its look-back are ignored.
        as_of: the cut-off, aware.
        feature_set: which features, for which prediction task.
        attributes: the user's attributes as of `as_of`.
        context: context features of the local day of `as_of` (see `cutoff_context`); null without them.
    """
    plan = _plan(feature_set)
    columns = events if isinstance(events, EventColumns) else EventColumns.from_events(events)
    history = UserHistory(columns, as_of, feature_set.task, context or {})
    values: dict[str, float] = {}
    for compute_windows, windowed_kind, features in plan.windowed:
        window_values = compute_windows(history, windowed_kind)
        for name, window in features:
            values[name] = window_values[window]
    for name, kind, compute_state in plan.states:
        values[name] = compute_state(history, kind)
    for name, formula in plan.formulas:
        values[name] = formula(values)
    row = [values[name] for name in feature_set.names]
    for attribute in feature_set.attributes:
        row += attribute.encode(attributes or {})
    return row


class _Plan(NamedTuple):
    """How to compute a feature set; formulas come last, each after the features it uses.

    Attributes:
        columns: the set's columns.
        windowed: function over all windows, kind, and the name and window index of each feature.
        states: feature name, kind and function.
        formulas: feature name and compiled formula.
    """

    columns: tuple[str, ...]
    windowed: list[tuple[Callable[[UserHistory, Any], list[float]], Windowed, list[tuple[str, int]]]]
    states: list[tuple[str, State, Callable[[UserHistory, Any], float]]]
    formulas: list[tuple[str, CompiledFormula]]


@lru_cache(maxsize=64)
def _plan(feature_set: FeatureSet) -> _Plan:
    plan = _Plan(feature_set.columns, [], [], [])
    windows = feature_set.task.windows
    for kind, group in groupby(feature_set.plan(), key=lambda feature: feature.kind):
        features = list(group)
        if isinstance(kind, Derived):
            compiled = ((feature.name, compile_formula(kind.formula, windows)) for feature in features)
            plan.formulas.extend(compiled)
        elif isinstance(kind, Windowed):
            indices = [(feature.name, windows.index(feature.window or windows[-1])) for feature in features]
            plan.windowed.append((_WINDOWED[type(kind)], kind, indices))
        else:
            plan.states.extend((feature.name, kind, _STATES[type(kind)]) for feature in features)
    return plan


def _count(history: UserHistory, kind: Count) -> list[float]:
    *starts, end = history.window_bounds(kind.event_type)
    return [float(end - start) for start in starts]


def _total(history: UserHistory, kind: Total) -> list[float]:
    running_value = history.running_value(kind.event_type)
    *starts, end = history.window_bounds(kind.event_type)
    return [float(running_value[end] - running_value[start]) for start in starts]


def _distinct(history: UserHistory, kind: Distinct) -> list[float]:
    keys, distinct, counts = history.keys(kind.key, kind.event_type), set[str | None](), []
    *starts, end = history.window_bounds(kind.event_type)
    for start in starts:
        distinct.update(keys[start:end])
        counts.append(float(len(distinct) - (None in distinct)))
        end = start
    return counts


def _days(history: UserHistory, kind: Days) -> list[float]:
    blocks = history.blocks(kind.event_type)
    counted = [block for block in blocks if block % 7 == 6] if kind.weekday else blocks
    return [float(bisect_right(counted, last)) for last in history.last_blocks]


def _sessions(history: UserHistory, kind: Sessions) -> list[float]:
    starts = history.session_starts(kind.gap_us)
    number = len(starts)
    return [float(number - bisect_left(starts, window_start)) for window_start in history.window_starts]


_WINDOWED: dict[type[Windowed], Callable[[UserHistory, Any], list[float]]] = {
    Count: _count,
    Total: _total,
    Distinct: _distinct,
    Days: _days,
    Sessions: _sessions,
}
"""Each kind over all windows of the task, ascending."""


def _hours_since(history: UserHistory, time: int) -> float:
    return float(history.cutoff - time) / float(HOUR_US)


def _since(history: UserHistory, kind: Since) -> float:
    last = history.last_time(kind.event_type)
    return nan if last is None else _hours_since(history, last)


def _first_seen(history: UserHistory, _: FirstSeen) -> float:
    return _hours_since(history, history.times[0]) if history.times else nan


def _clock(history: UserHistory, kind: Clock) -> float:
    return float(history.clock()[kind.part])


def _cart(history: UserHistory, kind: Cart) -> float:
    cart = history.open_cart()
    if kind.stat == "count":
        return float(len(cart))
    if kind.stat == "value":
        return float(sum(event_value(price, quantity) or 0 for *_, price, quantity in cart))
    if not cart:
        return nan
    extreme = min if kind.stat == "oldest" else max
    return _hours_since(history, extreme(cart)[0])


def _context(history: UserHistory, kind: Context) -> float:
    value = history.context.get(kind.name)
    return nan if value is None else float(value)


def _gap(history: UserHistory, kind: Gap) -> float:
    blocks = history.blocks(kind.event_type)
    if len(blocks) < 2:
        return nan
    if kind.stat == "last":
        return float(blocks[1] - blocks[0])
    span, gaps = blocks[-1] - blocks[0], len(blocks) - 1
    if kind.stat == "mean":
        return float(span) / float(gaps)
    return float(sum((b - a) ** 2 for a, b in pairwise(blocks)) * gaps) / float(span * span)


def _mean_price(history: UserHistory, kind: MeanPrice) -> float:
    prices = [price for price in history.column(kind.event_type, "price_minor") if price is not None]
    return float(sum(prices)) / float(len(prices)) if prices else nan


def _last_session(history: UserHistory, kind: LastSession) -> float:
    session = history.last_session()
    if kind.stat == "events":
        return float(session.stop - session.start)
    if kind.stat == "carts":
        return float(history.column(None, "event_type")[session].count("add_to_cart"))
    times = history.times[session]
    return float(times[-1] - times[0]) / float(MINUTE_US) if times else nan


def _concentration(history: UserHistory, kind: Concentration) -> float:
    counts = Counter(history.keys(kind.key, None))
    counts.pop(None, None)
    total = sum(counts.values())
    return float(sum(n * n for n in counts.values())) / float(total * total) if total else nan


_STATES: dict[type[State], Callable[[UserHistory, Any], float]] = {
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
