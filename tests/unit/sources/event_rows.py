"""Events, refusals, warnings and filtered rows of files as short lines of text, for tests to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from retail_core import sources
from retail_core.sources import Chunk, Source
from retail_core.sources.identity_links import distinct_links
from retail_core.sources.parse_notes import ParseNotes, merge_notes
from retail_core.sources.summary_collector import SummaryCollector

_OPTIONAL = (
    "item_id", "category", "brand", "price_minor", "quantity", "currency", "session_id", "platform",
    "order_id", "properties",
)  # fmt: skip


def read_rows(path: Path, source: Source) -> list[str]:
    """Lines of a whole file: its events, then refusals, filtered rows and warnings, also of the whole log."""
    chunks, summary = list(sources.read_events(path, source)), SummaryCollector(source)
    for chunk in chunks:
        summary.add(chunk)
    content = summary.summary(merge_notes(chunk.notes for chunk in chunks))
    return [
        *event_rows(chunks),
        *user_rows(chunks),
        *_refusal_rows(chunks),
        *link_rows(chunks),
        *_filter_rows(content.filtered),
        *_warning_rows(content.warnings),
    ]


def event_rows(chunks: Iterable[Chunk]) -> list[str]:
    """One line per event: user, time, type and the fields that it has."""
    rows = []
    for chunk in chunks:
        for event in chunk.events.to_dict("records"):
            time = event["event_time"].strftime("%Y-%m-%dT%H:%M:%SZ")
            fields = [
                f"{_name(name)}={_text(name, event[name])}" for name in _OPTIONAL if pd.notna(event[name])
            ]
            rows.append(" ".join([event["user_id"], time, event["event_type"], *fields]))
    return rows


def user_rows(chunks: Iterable[Chunk]) -> list[str]:
    """One line per row of a file of users: user, date and attributes."""
    rows = []
    for users in (chunk.users for chunk in chunks if chunk.has_user_rows):
        for row in users.to_dict("records"):
            dated = pd.notna(row["valid_from"])
            since = row["valid_from"].strftime("%Y-%m-%dT%H:%M:%SZ") if dated else "undated"
            rows.append(f"user {row['user_id']} {since} {row['attributes']}")
    return rows


def link_rows(chunks: Iterable[Chunk]) -> list[str]:
    """One line per identity link of each window."""
    return [
        f"link: {from_id} {to_id} {linked_at:%Y-%m-%dT%H:%M:%SZ}"
        for chunk in chunks
        for from_id, to_id, linked_at in distinct_links(chunk.links)
    ]


def note_rows(notes: ParseNotes) -> list[str]:
    """One line per filter and warning."""
    documents = notes.documents()
    return _filter_rows(documents["filtered"]) + _warning_rows(documents["warnings"])


def _filter_rows(filtered: Iterable[Mapping[str, Any]]) -> list[str]:
    names = ("column", "rule", "value", "count")
    return [" ".join(["filtered:", *(str(rows[name]) for name in names if rows[name])]) for rows in filtered]


def _warning_rows(warnings: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"warning: {warning['field']} {warning['rule']} {warning['count']}" for warning in warnings]


def _refusal_rows(chunks: Iterable[Chunk]) -> list[str]:
    refused = [refusal for chunk in chunks for refusal in chunk.refused]
    return [f"refused: line {refusal.line} {refusal.field} {refusal.rule}" for refusal in refused]


def _name(field: str) -> str:
    return "price" if field == "price_minor" else field


def _text(field: str, value: object) -> str:
    return f"{int(str(value)) / 100:.2f}" if field == "price_minor" else str(value)
