"""One user's events of the look-back as sorted columns, for the online interpreter."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import accumulate, repeat
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np

from retail_core.arrays import IntArray
from retail_core.features.cutoff_context import clock_features
from retail_core.features.event_columns import EVENT_KEYS, Column, EventColumns, RowSelector, row_selector
from retail_core.features.kinds import CART_EVENT_ORDER, event_value
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import DAY_US, SESSION_GAP_US
from retail_core.times import to_micros

_T = TypeVar("_T")

CartEvent = tuple[int, int, str, str | None, int | None, int | None]
"""A cart-relevant event: time, order at equal times, event id (unique), item, price, quantity."""

_CART_EVENT_FIELDS = ("event_time", "event_id", "item_id", "price_minor", "quantity")
_OPENS, _BUYS = CART_EVENT_ORDER["add_to_cart"], CART_EVENT_ORDER["purchase"]


class UserHistory:
    """The events of the look-back as sorted columns; most derived columns are computed on first use.

    Attributes:
        cutoff: the cut-off in microseconds.
        window_starts: start of each window of the task, in microseconds, the shortest window first.
        last_blocks: the last 24-hour block, counted back from the cut-off, that begins within each window.
        times: times of the events, ascending.
    """

    def __init__(
        self,
        events: EventColumns,
        as_of: datetime,
        task: PredictionTask,
        context: Mapping[str, float | None],
    ) -> None:
        self.as_of = as_of
        self.context = context
        self.task = task
        self.cutoff = to_micros(as_of)
        self.window_starts = [self.cutoff - window.micros for window in task.windows]
        self.last_blocks = [(window.micros - 1) // DAY_US for window in task.windows]
        self._events = events.deduplicate()
        self._times, self._select = _in_order(self._events.event_time, self.window_starts[-1], self.cutoff)
        self.times: list[int] = self._times.tolist()
        self._first_rows = [bisect_left(self.times, start) for start in self.window_starts]
        self._cache: dict[object, Any] = {}
        self._rows_of_type: dict[str, list[int]] = defaultdict(list)
        for row, event_type in enumerate(self.column(None, "event_type")):
            self._rows_of_type[event_type].append(row)

    def column(self, event_type: str | None, field: str) -> Column:
        """One field of the events of one type (None: of any), oldest first."""
        key = (event_type, field)
        if key not in self._cache:
            self._cache[key] = self._column(event_type, field)
        column: Column = self._cache[key]
        return column

    def _column(self, event_type: str | None, field: str) -> Column:
        if event_type is None:
            return self._select(getattr(self._events, field))
        rows = self._rows_of_type.get(event_type)
        return row_selector(rows)(self.column(None, field)) if rows else ()

    def last_time(self, event_type: str | None) -> int | None:
        """Time of the last event of the type; None where there is none."""
        rows = self._rows_of_type.get(event_type, ()) if event_type else range(len(self.times))
        return self.times[rows[-1]] if rows else None

    def window_bounds(self, event_type: str | None) -> list[int]:
        """Index of each window's first event among the events of one type, then the number of them."""
        if event_type is None:
            return [*self._first_rows, len(self.times)]
        rows = self._rows_of_type.get(event_type, ())
        return [*(bisect_left(rows, first) for first in self._first_rows), len(rows)]

    def running_value(self, event_type: str) -> list[int]:
        """Running sum of values over the events of one type, beginning with 0."""
        prices, quantities = self.column(event_type, "price_minor"), self.column(event_type, "quantity")
        values = [event_value(*cells) or 0 for cells in zip(prices, quantities, strict=True)]
        return list(accumulate(values, initial=0))

    def keys(self, key: str, event_type: str | None) -> Column:
        """Values of a key (see `EVENT_KEYS`) of the events of the type, oldest first; null is None."""
        event_key = EVENT_KEYS[key]
        values = self.column(event_type, event_key.column)
        if event_key.fallback is None:
            return values
        fallbacks = self.column(event_type, event_key.fallback)
        pairs = zip(values, fallbacks, strict=True)
        return [fallback if value is None else value for value, fallback in pairs]

    def blocks(self, event_type: str | None) -> list[int]:
        """24-hour blocks with an event of the type, counted back from the cut-off, ascending."""
        return self._cached(
            ("blocks", event_type), lambda: self._blocks(self.column(event_type, "event_time"))
        )

    def _blocks(self, times: Column) -> list[int]:
        blocks, end = [], len(times)
        while end:
            block = (self.cutoff - 1 - times[end - 1]) // DAY_US
            blocks.append(block)
            end = bisect_left(times, self.cutoff - (block + 1) * DAY_US, 0, end)
        return blocks

    def session_starts(self, gap: int = SESSION_GAP_US) -> list[int]:
        """Times at which sessions started, ascending; a pause of `gap` microseconds ends one."""
        return self._cached(("sessions", gap), lambda: self._session_starts(gap))

    def _session_starts(self, gap: int) -> list[int]:
        later = self._times[1:]
        starts: list[int] = later[later - self._times[:-1] >= gap].tolist()
        return self.times[:1] + starts

    def last_session(self) -> slice:
        """The rows of the session of the last event."""
        starts = self.session_starts()
        return slice(bisect_left(self.times, starts[-1]) if starts else 0, len(self.times))

    def clock(self) -> Mapping[str, int]:
        """The cut-off in the shop's time zone."""
        return self._cached("clock", lambda: clock_features(self.as_of, self.task.timezone))

    def open_cart(self) -> list[CartEvent]:
        """Additions to the cart that are open at the cut-off."""
        return self._cached("cart", self._open_cart)

    def _open_cart(self) -> list[CartEvent]:
        cart_events: list[CartEvent] = []
        for event_type, order in CART_EVENT_ORDER.items():
            times, *columns = (self.column(event_type, field) for field in _CART_EVENT_FIELDS)
            cart_events += zip(times, repeat(order), *columns, strict=False)
        cart_events.sort()
        cart: dict[str | None, CartEvent] = {}
        for cart_event in cart_events:
            _, order, _, item_id, _, _ = cart_event
            if order == _OPENS:
                cart[item_id] = cart_event
            elif order == _BUYS and item_id is None:
                cart.clear()
            else:
                cart.pop(item_id, None)
        return list(cart.values())

    def _cached(self, key: object, compute: Callable[[], _T]) -> _T:
        if key not in self._cache:
            self._cache[key] = compute()
        value: _T = self._cache[key]
        return value


def _in_order(times: Column, start: int, end: int) -> tuple[IntArray, RowSelector]:
    """The times in [start, end), ascending, and the selector that puts another column into that order."""
    unordered = np.fromiter(times, np.int64, len(times))
    if (unordered[1:] >= unordered[:-1]).all():
        first, last = unordered.searchsorted((start, end))
        return unordered[first:last], itemgetter(slice(int(first), int(last)))
    order = unordered.argsort(kind="stable")
    ascending = unordered[order]
    first, last = ascending.searchsorted((start, end))
    return ascending[first:last], row_selector(order[first:last].tolist())
