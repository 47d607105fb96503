"""One user's events before a cut-off, laid out for the online interpreter."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import NamedTuple

from retail_core.features.kinds import CLOSING_ORDER, DAY_US, Days, Distinct, Sessions, Total, event_value
from retail_core.features.question import Question
from retail_core.features.reader import to_micros


class OnlineEvent(NamedTuple):
    """One event of one user; `event_time` in microseconds since 1970, UTC."""

    event_id: str
    user_id: str
    event_time: int
    event_type: str
    item_id: str | None = None
    category: str | None = None
    brand: str | None = None
    price_minor: int | None = None
    quantity: int | None = None
    order_id: str | None = None


def online_event(document: Mapping[str, object]) -> OnlineEvent:
    """An event document of MongoDB; a naive `event_time` is UTC, as the driver returns it."""
    instant = document["event_time"]
    if not isinstance(instant, datetime):
        raise TypeError(f"event_time is a {type(instant).__name__}, not a datetime")
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    get: Callable[[str], object] = document.get
    return OnlineEvent(
        str(document["_id"] if "_id" in document else document["event_id"]),
        str(document["user_id"]),
        to_micros(aware),
        str(document["event_type"]),
        _text(get("item_id")),
        _text(get("category")),
        _text(get("brand")),
        _whole(get("price_minor")),
        _whole(get("quantity")),
        _text(get("order_id")),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None


class History:
    """The events that count, laid out once; each part is made when first asked for."""

    def __init__(
        self,
        events: Sequence[OnlineEvent],
        as_of: datetime,
        question: Question,
        context: Mapping[str, float | None],
    ) -> None:
        self.as_of = as_of
        self.context = context
        self.question = question
        self.now = to_micros(as_of)
        first = self.now - question.lookback_us
        unique = {e.event_id: e for e in reversed(events)}
        self.events = [e for e in unique.values() if first <= e.event_time < self.now]
        self.events.sort(key=attrgetter("event_time"))
        self.times = [e.event_time for e in self.events]
        by_type: dict[str, list[OnlineEvent]] = {}
        for event in self.events:
            by_type.setdefault(event.event_type, []).append(event)
        self.by_type = by_type
        self._made: dict[object, list[int]] = {}
        self._open: list[OnlineEvent] | None = None

    def of_type(self, event_type: str | None) -> Sequence[OnlineEvent]:
        """Events of one type (None: of any), oldest first."""
        return self.events if event_type is None else self.by_type.get(event_type, ())

    def times_of(self, event_type: str | None) -> list[int]:
        """Times of the events of one type, ascending."""
        if event_type is None:
            return self.times
        return self._once(event_type, lambda: [e.event_time for e in self.of_type(event_type)])

    def running_value(self, kind: Total) -> list[int]:
        """Running sum of values over the events of one type, beginning with 0."""
        values = (event_value(e.price_minor, e.quantity) or 0 for e in self.of_type(kind.event_type))
        return self._once(kind, lambda: list(accumulate(values, initial=0)))

    def last_seen(self, kind: Distinct) -> list[int]:
        """Times at which each distinct key was last seen, ascending."""
        return self._once(kind, lambda: self._last_seen(kind))

    def _last_seen(self, kind: Distinct) -> list[int]:
        events = self.of_type(kind.event_type)
        if kind.key == "item":
            seen = {e.item_id: e.event_time for e in events}
        elif kind.key == "category":
            seen = {e.category: e.event_time for e in events}
        else:
            seen = {e.event_id if e.order_id is None else e.order_id: e.event_time for e in events}
        seen.pop(None, None)
        return sorted(seen.values())

    def blocks(self, event_type: str | None) -> list[int]:
        """24-hour blocks with an event of the type, counted back from the cut-off, ascending."""
        last, times = self.now - 1, self.times_of(event_type)
        return self._once(("blocks", event_type), lambda: sorted({(last - time) // DAY_US for time in times}))

    def days(self, kind: Days) -> list[int]:
        """The last instant of each active day, ascending."""
        blocks = self.blocks(kind.event_type)
        wanted = [b for b in blocks if (b + 1) % 7 == 0] if kind.weekday else blocks
        return [self.now - 1 - block * DAY_US for block in reversed(wanted)]

    def session_starts(self, kind: Sessions) -> list[int]:
        """Times at which sessions started, ascending."""
        times, gap = self.times, kind.gap_us
        return self._once(kind, lambda: times[:1] + [b for a, b in pairwise(times) if b - a >= gap])

    def last_session(self) -> Sequence[OnlineEvent]:
        """Events of the session of the last event, oldest first."""
        starts = self.session_starts(Sessions())
        return self.events[bisect_left(self.times, starts[-1]) :] if starts else ()

    def open_cart(self) -> list[OnlineEvent]:
        """Additions to the cart that are still open."""
        if self._open is None:
            acts = [e for name in CLOSING_ORDER for e in self.of_type(name)]
            acts.sort(key=lambda e: (e.event_time, CLOSING_ORDER[e.event_type], e.event_id))
            cart: dict[str | None, OnlineEvent] = {}
            for act in acts:
                if act.event_type == "add_to_cart":
                    cart[act.item_id] = act
                elif act.event_type == "purchase" and act.item_id is None:
                    cart.clear()
                else:
                    cart.pop(act.item_id, None)
            self._open = list(cart.values())
        return self._open

    def _once(self, key: object, make: Callable[[], list[int]]) -> list[int]:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
