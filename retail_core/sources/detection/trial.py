"""What an ingest of the first window of a file would do; nothing is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from retail_core.errors import InputError
from retail_core.sources.event_reader import read_events
from retail_core.sources.source import Chunk, Source

PREVIEW_ROWS = 10
"""Events that are shown beside their raw rows."""

_RAW_CHARACTERS = 300
_FIELDS = (
    "user_id", "event_time", "event_type", "item_id", "category", "brand", "price_minor", "quantity",
    "currency", "session_id", "platform", "order_id",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """The first window of a file as read by a source.

    Attributes:
        events: events.
        links: identity links, of events and of rows that are no events.
        users: rows of attributes of a file of users.
        refused: refused rows.
        event_types: number of events by type.
        preview: line, raw row and event of the first rows; without events their links or attributes.
        refusals: rule, raw field, count, and line and value of the first case.
        warnings: counted values that would be left out, as `retail ingest` reports them.
        filtered: counted rows that the mapping leaves out.
        unread_columns: columns that nothing reads.
        problem: why the file cannot be read by this source; None if it can.
    """

    events: int = 0
    links: int = 0
    users: int = 0
    refused: int = 0
    event_types: Mapping[str, int] | None = None
    preview: tuple[Mapping[str, Any], ...] = ()
    refusals: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[Mapping[str, Any], ...] = ()
    filtered: tuple[Mapping[str, Any], ...] = ()
    unread_columns: tuple[str, ...] = ()
    problem: InputError | None = None

    @property
    def accepted(self) -> float:
        """Share of the rows read that become events, or only links or attributes of users."""
        used = self.events or self.users or self.links
        return used / (used + self.refused) if used else 0.0


def try_source(path: Path, source: Source) -> Trial:
    """Read the first window of a file (25,000 lines) as `source`."""
    try:
        with closing(read_events(path, source)) as chunks:  # type: ignore[type-var]
            chunk = next(chunks, None)
    except InputError as error:
        return Trial(problem=error)
    return Trial() if chunk is None else _trial(chunk)


def _trial(chunk: Chunk) -> Trial:
    events = chunk.events
    types = events["event_type"].value_counts().to_dict()
    notes = chunk.notes.documents()
    return Trial(
        events=len(events),
        links=len(chunk.links),
        users=len(chunk.users) if chunk.has_user_rows else 0,
        refused=len(chunk.refused),
        event_types={str(name): int(count) for name, count in types.items()},
        preview=_first_rows(chunk),
        refusals=_refusals(chunk),
        warnings=tuple(notes["warnings"]),
        filtered=tuple(notes["filtered"]),
        unread_columns=chunk.unread_columns,
    )


def _first_rows(chunk: Chunk) -> tuple[Mapping[str, Any], ...]:
    if len(chunk.events):
        return tuple(_preview(chunk, row) for row in range(min(PREVIEW_ROWS, len(chunk.events))))
    if chunk.has_user_rows:
        users = chunk.users.head(PREVIEW_ROWS).to_dict("records")
        return tuple({"user": {str(name): _shown(value) for name, value in user.items()}} for user in users)
    links = chunk.links.slice(0, PREVIEW_ROWS).drop_columns("row").to_pylist()
    return tuple({"link": {name: _shown(value) for name, value in link.items()}} for link in links)


def _shown(value: object) -> str:
    """A value of a preview as text; a time in UTC, nothing for a missing one."""
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    return _utc(pd.Timestamp(value)) if isinstance(value, datetime) else str(value)


def _utc(instant: pd.Timestamp) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _preview(chunk: Chunk, row: int) -> dict[str, Any]:
    values = chunk.events.iloc[row]
    event = {name: values[name] for name in _FIELDS if pd.notna(values[name])}
    event["event_time"] = _utc(event["event_time"])
    if "price_minor" in event:
        event["price"] = f"{int(event.pop('price_minor')) / 100:.2f}"
    if "quantity" in event:
        event["quantity"] = int(event["quantity"])
    return {"line": int(chunk.lines[row]), "raw": chunk.raw(row)[:_RAW_CHARACTERS], "event": event}


def _refusals(chunk: Chunk) -> tuple[Mapping[str, Any], ...]:
    counts = Counter((refusal.rule, refusal.field) for refusal in chunk.refused)
    first = {(refusal.rule, refusal.field): refusal for refusal in reversed(chunk.refused)}
    return tuple(
        {
            "rule": rule,
            "field": field,
            "count": count,
            "line": first[rule, field].line,
            "value": first[rule, field].value,
            "remedy": first[rule, field].remedy,
        }
        for (rule, field), count in counts.most_common()
    )
