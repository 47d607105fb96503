"""Read files as an ingest would, without a database: what would be stored, refused and left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retail_core.sources.event_reader import read_events
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.refusals import REMEDIES
from retail_core.sources.source import Source
from retail_core.sources.summary_collector import SummaryCollector


@dataclass(frozen=True)
class DryRunReport:
    """What an ingest of some files would do; which events are stored already is not looked up.

    Attributes:
        files: number of files.
        rows_read: events, or rows of users, plus refused rows.
        events: rows that become events, duplicates included.
        users: rows of files of users, which have no events.
        quarantined: rows that would be refused.
        refusals: rule, raw field, count and remedy of the refused rows.
        warnings: counted values that would be left out or changed.
        filtered: counted rows that the source leaves out.
        summary: period, event types, users and columns, as `retail ingest` reports them.
    """

    files: int
    rows_read: int
    events: int
    users: int
    quarantined: int
    refusals: tuple[dict[str, Any], ...]
    warnings: list[dict[str, Any]]
    filtered: list[dict[str, Any]]
    summary: dict[str, Any]


def dry_run(files: Sequence[Path], source: Source, *, timezone: str | None = None) -> DryRunReport:
    """Read `files` as `source`, with times without an offset in `timezone`; nothing is stored.

    Raises:
        InputError: a file is missing, unreadable or of another source.
    """
    source = source.with_timezone(timezone)
    summary, notes = SummaryCollector(source), ParseNotes()
    refused: Counter[tuple[str, str | None]] = Counter()
    rows = 0
    for path in files:
        for chunk in read_events(path, source):
            summary.add(chunk)
            notes += chunk.notes.of_file(path.name)
            refused.update((refusal.rule, refusal.field) for refusal in chunk.refused)
            rows += chunk.rows_read - len(chunk.refused)
    content = summary.summary(notes)
    summary_document = content.document()
    warnings, filtered = summary_document.pop("warnings"), summary_document.pop("filtered")
    return DryRunReport(
        files=len(files),
        rows_read=rows + refused.total(),
        events=0 if source.rows == "users" else rows,
        users=rows if source.rows == "users" else 0,
        quarantined=refused.total(),
        refusals=tuple(
            {"rule": rule, "field": field, "count": count, "remedy": REMEDIES[rule]}
            for (rule, field), count in refused.most_common()
        ),
        warnings=warnings,
        filtered=filtered,
        summary=summary_document,
    )
