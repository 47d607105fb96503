"""Store events of files and of API requests in MongoDB, in windows that can be repeated.

A file is parsed in one thread and inserted in another. A killed ingestion continues after its last committed
window when the same command runs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from retail_core.errors import DependencyError
from retail_core.ingest.window_writer import (
    PreparedWindow,
    insert_events,
    insert_users,
    prepare_window,
    quarantine_refusals,
    row_format_of,
    store_window,
)
from retail_core.sources.compressed_files import content_hash, file_kind
from retail_core.sources.event_reader import parse_rows, read_events
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.refusals import Refusal
from retail_core.sources.source import Source
from retail_core.sources.summary_collector import SummaryCollector
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import Store, server_time
from retail_core.store.mongo.ledger import FileKey, IngestionRun, RowCounts
from retail_core.store.mongo.quarantine import RefusalOrigin

IngestProgress = Callable[[str, int, int], None]
"""Called after each window with the file's name, the bytes of it that are stored, and its size in bytes."""


@dataclass(frozen=True)
class IngestReport:
    """Row counts of an ingestion; rows_read = events_inserted + duplicates + quarantined.

    Attributes:
        files: number of files, skipped ones included.
        rows_read: rows of the files that were not skipped.
        events_inserted: new events.
        duplicates: rows whose event was stored before.
        quarantined: refused rows.
        skipped_files: files that had been ingested before.
        seconds: duration.
        warnings: values that were left out or changed in stored events, by field and rule, with examples.
        filtered: rows that the mapping leaves out; they are not part of `rows_read`.
        summary: content of the files and what was not used of them, see `IngestSummary`.
    """

    files: int
    rows_read: int
    events_inserted: int
    duplicates: int
    quarantined: int
    skipped_files: int
    seconds: float
    warnings: list[dict[str, Any]] = field(default_factory=list)
    filtered: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


def ingest(
    store: Store,
    paths: Sequence[Path],
    source: Source,
    *,
    timezone: str | None = None,
    at: datetime,
    progress: IngestProgress | None = None,
) -> IngestReport:
    """Store the events of files; files that were ingested before are skipped, unfinished ones are resumed.

    Args:
        store: the database.
        paths: CSV, .gz, .zst, Parquet or JSON lines, recognised by content.
        source: dialect of the files.
        timezone: IANA zone of times without an offset, instead of the source's.
        at: current time, stored in the ledger.
        progress: called after each window.

    Raises:
        InputError: a file cannot be read as `source`, or another process is ingesting it.
        IntegrityError: the counts do not add up; the current window was not committed.
        DependencyError: MongoDB failed; the same call later continues after the last committed window.
    """
    started = time.perf_counter()
    source = source.with_timezone(timezone)
    for path in paths:
        file_kind(path)
    counts, skipped = RowCounts(), 0
    notes, summary = ParseNotes(), SummaryCollector(source)
    for path in paths:
        result = _ingest_file(store, path, source, at, progress)
        if result is None:
            skipped += 1
            continue
        counts += result.counts
        notes += result.notes
        summary.merge(result.summary)
    content = summary.summary(notes).document()
    return IngestReport(
        files=len(paths),
        rows_read=counts.rows_read,
        events_inserted=counts.inserted,
        duplicates=counts.duplicates,
        quarantined=counts.quarantined,
        skipped_files=skipped,
        seconds=round(time.perf_counter() - started, 3),
        warnings=content.pop("warnings"),
        filtered=content.pop("filtered"),
        summary=content,
    )


def store_events(
    store: Store, rows: Sequence[Mapping[str, object]], source: Source, *, channel: str = "api"
) -> tuple[RowCounts, list[Refusal]]:
    """Store rows of a request in one window, acknowledged by a majority of MongoDB's members.

    Refused rows and rows with a conflicting id are returned and put into quarantine, like those of files.
    Storing the same rows again adds neither events nor quarantined rows.

    Args:
        store: the database.
        rows: JSON objects: canonical events, or raw rows of another source.
        source: dialect of the rows.
        channel: how the rows came, part of the ledger's id.

    Returns:
        Counts of the rows, and refusals whose `line` is the position in `rows`, from 1.

    Raises:
        IntegrityError: the counts do not add up; nothing was committed.
    """
    window = prepare_window(parse_rows(rows, source), source.name)
    run, row_format = IngestionRun(f"{channel}:{source.name}", channel), row_format_of(window.chunk, source)
    window_id = ledger.open_window(store, run, (1, len(rows)), row_format).window_id
    counts, conflicts = insert_events(store, window, window_id)
    users = insert_users(store, window, window_id)
    refused = [*window.chunk.refused, *conflicts]
    if refused:
        at = server_time(store)
        # Each request counts as a file: a row that an earlier request brought is not stored twice.
        file_id = f"{run.file_id}:{window_id}"
        origin = RefusalOrigin(file_id, channel, source.name, window_id, at, row_format)
        quarantine_refusals(store, refused, origin, counts)
    notes = window.chunk.notes.of_file(channel)
    ledger.commit_window(store, run, window_id, counts, last=len(rows), users=users, notes=notes)
    return counts, refused


@dataclass(frozen=True)
class _FileResult:
    """What one run added to a file: counts, warnings and summary of the lines that it read."""

    counts: RowCounts
    notes: ParseNotes
    summary: SummaryCollector


def _ingest_file(
    store: Store, path: Path, source: Source, at: datetime, progress: IngestProgress | None
) -> _FileResult | None:
    """Ingest a file; None if it was ingested before."""
    key = FileKey(
        path, content_hash(path), source.name, source.options_hash(), source.timezone, source.policy
    )
    try:
        run = ledger.begin_run(store, key.file_id, key.description(), at)
        if run is None:
            return None
        before = run.counts
        notes_before, run.notes = run.notes, ParseNotes()
        with ledger.releasing_lease(store, run):
            summary = _store_file(store, run, path, source, at, progress)
            result = _FileResult(run.counts - before, run.notes, summary)
            # The summary is that of the lines which this run read, the warnings are those of all runs.
            ledger.finish_run(store, run, at, summary.summary(notes_before + run.notes, stored=True))
    except PyMongoError as error:
        raise DependencyError(
            f"MongoDB failed while {path} was ingested: {error}.",
            remedy="run the same command again; it continues after the last committed window.",
        ) from error
    return result


def _store_file(
    store: Store, run: IngestionRun, path: Path, source: Source, at: datetime, progress: IngestProgress | None
) -> SummaryCollector:
    size, summary = path.stat().st_size, SummaryCollector(source)
    for window in _read_ahead(_prepared_windows(path, source, run.offset)):
        summary.add(window.chunk)
        if window.chunk.rows_read or window.users or window.chunk.notes.filtered:
            store_window(store, run, window, source, at)
        if progress is not None:
            progress(path.name, window.chunk.position, size)
    return summary


def _prepared_windows(path: Path, source: Source, skip: int) -> Iterator[PreparedWindow]:
    for chunk in read_events(path, source, skip=skip):
        yield prepare_window(chunk, source.name)


def _read_ahead(windows: Iterator[PreparedWindow]) -> Iterator[PreparedWindow]:
    """The same windows; a thread prepares the next one while the caller stores the present one."""
    with ThreadPoolExecutor(1, thread_name_prefix="parse") as pool:
        next_window: Future[PreparedWindow | None] = pool.submit(next, windows, None)
        while (window := next_window.result()) is not None:
            next_window = pool.submit(next, windows, None)
            yield window
