"""What reading a file noticed: its period, event types, users, and columns and values that were not used.

The parser fills one summary per file; the ledger stores it and `retail ingest` prints it. Nothing in it
changes the row counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class IngestSummary:
    """Summary of the events that were parsed from a window or a file, duplicates included.

    Attributes:
        first_event: time of the earliest event, UTC; None without events.
        last_event: time of the latest event, UTC.
        event_types: number of events by type.
        users: number of distinct users.
        purchases: number of events of type `purchase`.
        dominant_user: the user with the most events, if its share of all events is suspiciously large.
        dominant_share: share of all events that are of `dominant_user`.
        absent_columns: raw columns that the source maps and the file lacks.
        unread_columns: raw columns of the file that no field, property, attribute or rule reads.
        null_fields: mapped event fields without any value although their column is present.
        similar_event_types: event type -> known type that it resembles (`PURCHASE` -> `purchase`).
        warnings: counted problems of single values (rule, field, count, examples, remedy).
        filtered: counted rows that the mapping left out (column, rule, value, count).
    """

    first_event: datetime | None = None
    last_event: datetime | None = None
    event_types: Mapping[str, int] = field(default_factory=dict)
    users: int = 0
    purchases: int = 0
    dominant_user: str | None = None
    dominant_share: float | None = None
    absent_columns: tuple[str, ...] = ()
    unread_columns: tuple[str, ...] = ()
    null_fields: tuple[str, ...] = ()
    similar_event_types: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Mapping[str, Any], ...] = ()
    filtered: tuple[Mapping[str, Any], ...] = ()

    def document(self) -> dict[str, Any]:
        """Plain values for MongoDB and JSON; event types are pairs, since their names may contain dots."""
        content = asdict(self)
        for name in ("event_types", "similar_event_types"):
            content[name] = [list(pair) for pair in content[name].items()]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}

    @classmethod
    def from_document(cls, content: Mapping[str, Any]) -> IngestSummary:
        """Inverse of `document`; keys of a later release are ignored."""
        names = {entry.name for entry in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in content.items() if name in names}
        for name in ("event_types", "similar_event_types"):
            values[name] = {str(key): value for key, value in values.get(name, ())}
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**arguments)
