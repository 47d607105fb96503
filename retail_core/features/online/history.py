"""One user's events before a cut-off, laid out for the online interpreter."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import accumulate, repeat
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from retail_core.features.clock import clock_parts
from retail_core.features.kinds import CLOSING_ORDER, DAY_US, SESSION_GAP_US, Distinct, event_value
from retail_core.features.online.columns import Column, Columns, picker
from retail_core.features.question import Question
from retail_core.features.reader import to_micros

_T = TypeVar("_T")

Act = tuple[int, int, str, str | None, int | None, int | None]
"""What opens or closes a cart: time, order at equal times, event id (never twice), item, price, quantity."""

_ACT_FIELDS = ("event_time", "event_id", "item_id", "price_minor", "quantity")
_OPENS, _BUYS = CLOSING_ORDER["add_to_cart"], CLOSING_ORDER["purchase"]
Times = npt.NDArray[np.int64]


class History:
    """The events that count, laid out once as columns; most parts are made when first asked for.

    Attributes:
        now: the cut-off in microseconds.
        edges: where each window of the question begins, in microseconds, the shortest window first.
        last_blocks: the last 24-hour block, counted back from the cut-off, that begins within each window.
        times: when the events that count happened, ascending.
    """

    def __init__(
        self,
        events: Columns,
        as_of: datetime,
        question: Question,
        context: Mapping[str, float | None],
    ) -> None:
        self.as_of = as_of
        self.context = context
        self.question = question
        self.now = to_micros(as_of)
        self.edges = [self.now - window.micros for window in question.windows]
        self.last_blocks = [(window.micros - 1) // DAY_US for window in question.windows]
        self._given = events.once()
        self._stamps, self._pick = _in_order(self._given.event_time, self.edges[-1], self.now)
        self.times: list[int] = self._stamps.tolist()
        self._starts = [bisect_left(self.times, edge) for edge in self.edges]
        self._made: dict[object, Any] = {}
        self._of_type: dict[str, list[int]] = defaultdict(list)
        for place, event_type in enumerate(self.column(None, "event_type")):
            self._of_type[event_type].append(place)

    def column(self, event_type: str | None, field: str) -> Column:
        """One field of the events of one type (None: of any), oldest first."""
        key = (event_type, field)
        if key not in self._made:
            self._made[key] = self._column(event_type, field)
        made: Column = self._made[key]
        return made

    def _column(self, event_type: str | None, field: str) -> Column:
        if event_type is None:
            return self._pick(getattr(self._given, field))
        own = self._of_type.get(event_type)
        return picker(own)(self.column(None, field)) if own else ()

    def last_time(self, event_type: str | None) -> int | None:
        """When the last event of the type was; None where there is none."""
        own = self._of_type.get(event_type, ()) if event_type else range(len(self.times))
        return self.times[own[-1]] if own else None

    def places(self, event_type: str | None) -> list[int]:
        """Where each window of the question begins among the events of one type, then how many there are."""
        if event_type is None:
            return [*self._starts, len(self.times)]
        own = self._of_type.get(event_type, ())
        return [*(bisect_left(own, start) for start in self._starts), len(own)]

    def running_value(self, event_type: str) -> list[int]:
        """Running sum of values over the events of one type, beginning with 0."""
        prices, quantities = self.column(event_type, "price_minor"), self.column(event_type, "quantity")
        values = [event_value(*one) or 0 for one in zip(prices, quantities, strict=True)]
        return list(accumulate(values, initial=0))

    def keys(self, kind: Distinct) -> Column:
        """What is counted of each event of the type, oldest first."""
        if kind.key == "item":
            return self.column(kind.event_type, "item_id")
        if kind.key == "category":
            return self.column(kind.event_type, "category")
        ids, orders = (self.column(kind.event_type, name) for name in ("event_id", "order_id"))
        return [own if order is None else order for own, order in zip(ids, orders, strict=True)]

    def blocks(self, event_type: str | None) -> list[int]:
        """24-hour blocks with an event of the type, counted back from the cut-off, ascending."""
        return self._once(("blocks", event_type), lambda: self._blocks(self.column(event_type, "event_time")))

    def _blocks(self, times: Column) -> list[int]:
        found, place = [], len(times)
        while place:
            block = (self.now - 1 - times[place - 1]) // DAY_US
            found.append(block)
            place = bisect_left(times, self.now - (block + 1) * DAY_US, 0, place)
        return found

    def session_starts(self, gap: int = SESSION_GAP_US) -> list[int]:
        """Times at which sessions started, ascending; a pause of `gap` microseconds ends one."""
        return self._once(("sessions", gap), lambda: self._session_starts(gap))

    def _session_starts(self, gap: int) -> list[int]:
        later = self._stamps[1:]
        starts: list[int] = later[later - self._stamps[:-1] >= gap].tolist()
        return self.times[:1] + starts

    def last_session(self) -> slice:
        """Which events are of the session of the last event."""
        starts = self.session_starts()
        return slice(bisect_left(self.times, starts[-1]) if starts else 0, len(self.times))

    def clock(self) -> Mapping[str, int]:
        """The cut-off on the shop's clock."""
        return self._once("clock", lambda: clock_parts(self.as_of, self.question.timezone))

    def open_cart(self) -> list[Act]:
        """Additions to the cart that are still open."""
        return self._once("cart", self._open_cart)

    def _open_cart(self) -> list[Act]:
        acts: list[Act] = []
        for event_type, order in CLOSING_ORDER.items():
            times, *rest = (self.column(event_type, field) for field in _ACT_FIELDS)
            acts += zip(times, repeat(order), *rest, strict=False)
        acts.sort()
        cart: dict[str | None, Act] = {}
        for act in acts:
            _, order, _, item_id, _, _ = act
            if order == _OPENS:
                cart[item_id] = act
            elif order == _BUYS and item_id is None:
                cart.clear()
            else:
                cart.pop(item_id, None)
        return list(cart.values())

    def _once(self, key: object, make: Callable[[], _T]) -> _T:
        if key not in self._made:
            self._made[key] = make()
        made: _T = self._made[key]
        return made


def _in_order(
    times: Column, start: int, end: int
) -> tuple[npt.NDArray[np.int64], Callable[[Column], Column]]:
    """The times in [start, end), ascending, and what puts another column into that order."""
    given = np.fromiter(times, np.int64, len(times))
    if (given[1:] >= given[:-1]).all():
        first, last = given.searchsorted((start, end))
        return given[first:last], itemgetter(slice(int(first), int(last)))
    order = given.argsort(kind="stable")
    ascending = given[order]
    first, last = ascending.searchsorted((start, end))
    return ascending[first:last], picker(order[first:last].tolist())
