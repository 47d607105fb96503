"""The event columns that features read: the keys they group by, and a user's events as rows and as columns.

Batch, online and the service read the same list, so that a new key is added here and used in `definitions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

from retail_core.times import to_micros

Column = Sequence[Any]
RowSelector = Callable[[Column], Column]


@dataclass(frozen=True)
class EventKey:
    """An event column by which features group events.

    Attributes:
        column: its name in the event schema; text, null where the event names none.
        fallback: a column that is never null and stands in where `column` is null; None leaves the null.
    """

    column: str
    fallback: str | None = None


EVENT_KEYS: dict[str, EventKey] = {
    "item": EventKey("item_id"),
    "category": EventKey("category"),
    "order": EventKey("order_id", fallback="event_id"),
}
"""Keys that features may group events by; their columns are fields of `OnlineEvent` and `EventColumns`."""


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


class EventColumns(NamedTuple):
    """One user's events as columns of equal length; fields as those of `OnlineEvent`."""

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
    def from_events(cls, events: Sequence[OnlineEvent]) -> EventColumns:
        """Columns of these events, in their order."""
        if not events:
            return cls()
        event_id, _, *further_columns = zip(*events, strict=True)
        return cls(event_id, *further_columns)

    def append(self, later: EventColumns) -> EventColumns:
        """These events, followed by more events of the same user."""
        return EventColumns._make([*first, *second] for first, second in zip(self, later, strict=True))

    def within(self, start: int, end: int) -> EventColumns:
        """The events with start <= event_time < end (microseconds), in their order."""
        rows = [row for row, time in enumerate(self.event_time) if start <= time < end]
        return self if len(rows) == len(self.event_time) else EventColumns(*map(row_selector(rows), self))

    def deduplicate(self) -> EventColumns:
        """The first of the events with the same id, in the order of the events."""
        if len(set(self.event_id)) == len(self.event_id):
            return self
        rows = range(len(self.event_id) - 1, -1, -1)
        first_row = dict(zip(reversed(self.event_id), rows, strict=True))
        return EventColumns(*map(row_selector(sorted(first_row.values())), self))


def columns_read() -> tuple[str, ...]:
    """The fields of `EventColumns` that features read, in its order; `event_id` is always needed."""
    keys = {key.column for key in EVENT_KEYS.values()}
    names = keys | {"event_id", "event_time", "event_type", "price_minor", "quantity"}
    return tuple(name for name in EventColumns._fields if name in names)


def event_from_document(document: Mapping[str, object]) -> OnlineEvent:
    """An event document of MongoDB; a naive `event_time` is UTC, as the driver returns it.

    Raises:
        TypeError: `event_time` is no datetime.
    """
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
        _optional_text(get("item_id")),
        _optional_text(get("category")),
        _optional_text(get("brand")),
        _optional_int(get("price_minor")),
        _optional_int(get("quantity")),
        _optional_text(get("order_id")),
    )


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)


def _optional_int(value: object) -> int | None:
    return int(value) if isinstance(value, int) else None


def row_selector(rows: list[int]) -> RowSelector:
    """A function that selects these rows of a column, as a tuple."""
    if len(rows) > 1:
        return itemgetter(*rows)
    return itemgetter(slice(rows[0], rows[0] + 1) if rows else slice(0))
