"""One user's events before a cut-off, laid out for the online interpreter."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from retail_core.features.clock import clock_parts
from retail_core.features.kinds import CLOSING_ORDER, DAY_US, SESSION_GAP_US, Days, Distinct, event_value
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


_FIELD = {name: itemgetter(place) for place, name in enumerate(OnlineEvent._fields)}
_id_of, _time_of, _type_of = (_FIELD[name] for name in ("event_id", "event_time", "event_type"))

_T = TypeVar("_T")


class History:
    """The events that count, laid out once; most parts are made when first asked for.

    Attributes:
        now: the cut-off in microseconds.
        edges: where each window of the question begins, in microseconds, the shortest window first.
        events: those that count, oldest first.
        times: their times.
    """

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
        self.edges = [self.now - window.micros for window in question.windows]
        if len(set(map(_id_of, events))) < len(events):
            events = list({event.event_id: event for event in reversed(events)}.values())
        ordered = sorted(events, key=_time_of)
        times = list(map(_time_of, ordered))
        counting = slice(bisect_left(times, self.edges[-1]), bisect_left(times, self.now))
        self.events, self.times = ordered[counting], times[counting]
        by_type: dict[str, list[OnlineEvent]] = defaultdict(list)
        for event_type, event in zip(map(_type_of, self.events), self.events, strict=True):
            by_type[event_type].append(event)
        self._by_type = by_type
        self._times = {name: list(map(_time_of, own)) for name, own in by_type.items()}
        self._made: dict[object, Any] = {}

    def of_type(self, event_type: str | None) -> Sequence[OnlineEvent]:
        """Events of one type (None: of any), oldest first."""
        return self.events if event_type is None else self._by_type.get(event_type, ())

    def column(self, event_type: str | None, field: str) -> list[Any]:
        """One field of the events of one type, oldest first."""
        return self._once((event_type, field), lambda: list(map(_FIELD[field], self.of_type(event_type))))

    def times_of(self, event_type: str | None) -> list[int]:
        """Times of the events of one type, ascending."""
        return self.times if event_type is None else self._times.get(event_type, [])

    def places(self, event_type: str | None) -> list[int]:
        """Where each window of the question begins among the events of one type."""
        times = self.times_of(event_type)
        return self._once(("places", event_type), lambda: [bisect_left(times, edge) for edge in self.edges])

    def running_value(self, event_type: str) -> list[int]:
        """Running sum of values over the events of one type, beginning with 0."""
        prices, quantities = self.column(event_type, "price_minor"), self.column(event_type, "quantity")
        values = [event_value(*one) or 0 for one in zip(prices, quantities, strict=True)]
        return list(accumulate(values, initial=0))

    def keys(self, kind: Distinct) -> list[str | None]:
        """What is counted of each event of the type, oldest first."""
        if kind.key == "item":
            return self.column(kind.event_type, "item_id")
        if kind.key == "category":
            return self.column(kind.event_type, "category")
        events = self.of_type(kind.event_type)
        return [event.event_id if event.order_id is None else event.order_id for event in events]

    def blocks(self, event_type: str | None) -> list[int]:
        """24-hour blocks with an event of the type, counted back from the cut-off, ascending."""
        return self._once(("blocks", event_type), lambda: self._blocks(self.times_of(event_type)))

    def _blocks(self, times: list[int]) -> list[int]:
        found, place = [], len(times)
        while place:
            block = (self.now - 1 - times[place - 1]) // DAY_US
            found.append(block)
            place = bisect_left(times, self.now - (block + 1) * DAY_US, 0, place)
        return found

    def days(self, kind: Days) -> list[int]:
        """The last instant of each active day, ascending."""
        blocks = self.blocks(kind.event_type)
        wanted = [b for b in blocks if (b + 1) % 7 == 0] if kind.weekday else blocks
        return [self.now - 1 - block * DAY_US for block in reversed(wanted)]

    def session_starts(self, gap: int = SESSION_GAP_US) -> list[int]:
        """Times at which sessions started, ascending; a pause of `gap` microseconds ends one."""
        return self._once(("sessions", gap), lambda: self._session_starts(gap))

    def _session_starts(self, gap: int) -> list[int]:
        starts, ended = [], self.edges[-1]
        for time in self.times:
            if time >= ended:
                starts.append(time)
            ended = time + gap
        return starts

    def last_session(self) -> Sequence[OnlineEvent]:
        """Events of the session of the last event, oldest first."""
        starts = self.session_starts()
        return self.events[bisect_left(self.times, starts[-1]) :] if starts else ()

    def clock(self) -> Mapping[str, int]:
        """The cut-off on the shop's clock."""
        return self._once("clock", lambda: clock_parts(self.as_of, self.question.timezone))

    def open_cart(self) -> list[OnlineEvent]:
        """Additions to the cart that are still open."""
        return self._once("cart", self._open_cart)

    def _open_cart(self) -> list[OnlineEvent]:
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
        return list(cart.values())

    def _once(self, key: object, make: Callable[[], _T]) -> _T:
        if key not in self._made:
            self._made[key] = make()
        made: _T = self._made[key]
        return made
