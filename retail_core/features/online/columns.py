"""One user's events for the online interpreter: one by one, and as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from retail_core.features.reader import to_micros

Column = Sequence[Any]
Picker = Callable[[Column], Column]


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


class Columns(NamedTuple):
    """One user's events as columns of one length; fields as those of `OnlineEvent`."""

    event_id: Sequence[str] = ()
    event_time: Sequence[int] = ()
    event_type: Sequence[str] = ()
    item_id: Sequence[str | None] = ()
    category: Sequence[str | None] = ()
    brand: Sequence[str | None] = ()
    price_minor: Sequence[int | None] = ()
    quantity: Sequence[int | None] = ()
    order_id: Sequence[str | None] = ()

    @classmethod
    def of(cls, events: Sequence[OnlineEvent]) -> Columns:
        """Those events, in their order."""
        if not events:
            return cls()
        event_id, _, *rest = zip(*events, strict=True)
        return cls(event_id, *rest)

    def then(self, more: Columns) -> Columns:
        """These events, then more of the same user."""
        return Columns._make([*first, *second] for first, second in zip(self, more, strict=True))

    def once(self) -> Columns:
        """Of events with the same id the first."""
        if len(set(self.event_id)) == len(self.event_id):
            return self
        first = dict(zip(reversed(self.event_id), range(len(self.event_id) - 1, -1, -1), strict=True))
        return Columns(*map(picker(sorted(first.values())), self))


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


def picker(places: list[int]) -> Picker:
    """What takes these places of a column, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))
