"""Store events of files in MongoDB, in windows that can be repeated.

A file is parsed in one thread and inserted in another. A killed ingestion continues after its last committed
window when the same command runs again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from retail_core.alerts.raising import deliver_due, store_alert
from retail_core.errors import InputError
from retail_core.ingest.late_events import LateEvents
from retail_core.ingest.link_warnings import link_notes, record_link_notes
from retail_core.ingest.quarantine_alert import earlier_counts, quarantine_alert
from retail_core.ingest.undo import undo
from retail_core.ingest.window_writer import (
    PreparedWindow,
    prepare_window,
    store_window,
)
from retail_core.sources.compressed_files import file_kind
from retail_core.sources.content_hashes import content_hashes
from retail_core.sources.event_reader import read_events
from retail_core.sources.parse_notes import ParseNotes
from retail_core.sources.presets import PRESETS
from retail_core.sources.source import Source
from retail_core.sources.summary_collector import SummaryCollector
from retail_core.store.mongo import ingested_files, ledger
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ledger import FileKey, IngestionRun
from retail_core.store.mongo.row_counts import RowCounts
from retail_core.store.mongo.server_errors import mongodb_error

IngestProgress = Callable[[str, int, int], None]
"""Called after each window with the file's name, the bytes of it that are stored, and its size in bytes."""


@dataclass(frozen=True)
class IngestReport:
    """Row counts of an ingestion; rows_read = events_inserted + users_inserted + duplicates + quarantined.

    Attributes:
        files: number of files, skipped ones included.
        rows_read: rows of the files that were not skipped.
        events_inserted: new events.
        users_inserted: new rows of files of users, which have no events.
        duplicates: rows whose event was stored before.
        quarantined: refused rows.
        skipped_files: files that had been ingested before.
        seconds: duration.
        warnings: values that were left out or changed in stored events, by field and rule, with examples.
        filtered: rows that the mapping leaves out; they are not part of `rows_read`.
        summary: content of the files and what was not used of them, see `IngestSummary`.
        late_events: new events before the end of the newest label window with a known outcome.
        changed_outcomes: matured predictions whose outcome the late events change.
        links: identity links that are new or changed.
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
    late_events: int = 0
    changed_outcomes: int = 0
    users_inserted: int = 0
    links: int = 0


def ingest(  # noqa: PLR0913 - one option each
    store: Store,
    paths: Sequence[Path],
    source: Source,
    *,
    timezone: str | None = None,
    at: datetime,
    replace_earlier: bool = False,
    progress: IngestProgress | None = None,
) -> IngestReport:
    """Store the events of files; files that were ingested before are skipped, unfinished ones are resumed.

    Args:
        store: the database.
        paths: CSV, .gz, .zst, Parquet or JSON lines, recognised by content.
        source: dialect of the files.
        timezone: IANA zone of times without an offset, instead of the source's.
        at: current time, stored in the ledger.
        replace_earlier: first undo what a file brought that was ingested with other options.
        progress: called after each window.

    Raises:
        InputError: a file cannot be read as `source`, was ingested with other options (nothing is stored
            then), or another process is ingesting it.
        IntegrityError: the counts do not add up; the current window was not committed.
        DependencyError: MongoDB failed; the same call later continues after the last committed window.
    """
    started = time.perf_counter()
    source = source.with_timezone(timezone)
    for path in paths:
        file_kind(path)
    keys = [file_key(path, source) for path in paths]
    if replace_earlier:
        for key in keys:
            _refuse_unreadable(key.path, source)
    file_ids = [_file_id(store, key, replace_earlier=replace_earlier, at=at) for key in keys]
    counts, skipped, late = RowCounts(), 0, LateEvents(store)
    links: dict[str, int] = {}
    notes, summary = ParseNotes(), SummaryCollector(source)
    ingestion = _Ingestion(store, source, at, late, progress)
    for key, file_id in zip(keys, file_ids, strict=True):
        result = _ingest_file(ingestion, key, file_id)
        if result is None:
            skipped += 1
            continue
        counts += result.counts
        links[file_id] = result.links
        notes += result.notes
        summary.merge(result.summary)
    linking_files = [file_id for file_id, count in links.items() if count]
    if linking_files:
        link_warnings = link_notes(store, source, linking_files)
        record_link_notes(store, linking_files, link_warnings)
        notes += link_warnings
    content = summary.summary(notes).document()
    deliver_due(store, at=at)
    return IngestReport(
        files=len(paths),
        rows_read=counts.rows_read,
        events_inserted=counts.inserted if source.rows == "events" else 0,
        users_inserted=counts.inserted if source.rows == "users" else 0,
        duplicates=counts.duplicates,
        quarantined=counts.quarantined,
        skipped_files=skipped,
        seconds=round(time.perf_counter() - started, 3),
        warnings=content.pop("warnings"),
        filtered=content.pop("filtered"),
        summary=content,
        late_events=late.count,
        changed_outcomes=late.changed_outcomes,
        links=sum(links.values()),
    )


def file_key(path: Path, source: Source) -> FileKey:
    """Identity of a file that is read as `source`."""
    preset, content = PRESETS.get(source.name), content_hashes(path)
    return FileKey(
        path=path,
        sha256=content.sha256,
        text_sha256=content.text_sha256,
        source=source.name,
        options=source.options_hash(),
        timezone=source.timezone if source.rows == "events" else None,
        policy=source.policy,
        identity_rule=source.identity.rule,
        reading=source.options_json(),
        of_users=source.rows == "users",
        preset=preset is not None and source == replace(preset, timezone=source.timezone),
    )


def _refuse_unreadable(path: Path, source: Source) -> None:
    """Refuse a file of which `source` reads no row of the first window: an undo would only remove events.

    Raises:
        InputError: the file cannot be read as `source`, or all these rows would be refused.
    """
    window = next(read_events(path, source), None)
    if window is None or not window.refused or window.rows_read > len(window.refused):
        return
    first = window.refused[0]
    raise InputError(
        f"None of the first {window.rows_read:,} rows of {path} can be read with these options, line "
        f"{first.line}: {first.field or 'row'}, {first.rule}; nothing was undone.",
        remedy="correct the mapping; --dry-run shows what it reads.",
    )


def _file_id(store: Store, key: FileKey, *, replace_earlier: bool, at: datetime) -> str:
    """`_id` of the file's ledger document, perhaps that of a copy, or as an earlier release made it.

    Raises:
        InputError: the content was ingested with other options and not `replace_earlier`.
    """
    if ingested_files.is_done(store, key.file_id):
        return key.file_id
    files = ingested_files.same_content(store, key)
    for file in files:
        if ingested_files.is_same_reading(file, key):
            return str(file["_id"])
    for file in files:
        if not replace_earlier:
            raise ingested_files.other_reading(file, key)
        undo(store, file["_id"], at=at)
    return key.file_id


@dataclass(frozen=True)
class _Ingestion:
    """What all files of a call have in common."""

    store: Store
    source: Source
    at: datetime
    late: LateEvents
    progress: IngestProgress | None


@dataclass(frozen=True)
class _FileResult:
    """What one run added to a file: counts, warnings and links; and the summary of the whole file."""

    counts: RowCounts
    notes: ParseNotes
    summary: SummaryCollector
    links: int


def _ingest_file(ingestion: _Ingestion, key: FileKey, file_id: str) -> _FileResult | None:
    """Ingest a file; None if it was ingested before."""
    store, at = ingestion.store, ingestion.at
    try:
        run = ledger.begin_run(store, file_id, key.description(), at)
        if run is None:
            return None
        before = run.counts
        notes_before, run.notes = run.notes, ParseNotes()
        with ledger.releasing_lease(store, run):
            summary, links = _store_file(ingestion, run, key.path)
            result = _FileResult(run.counts - before, run.notes, summary, links)
            _store_quarantine_alert(ingestion, run)
            ledger.finish_run(store, run, at, summary.summary(notes_before + run.notes, stored=True))
    except PyMongoError as error:
        failure = mongodb_error(store.settings, error)
        remedy = f"{failure.remedy} Run the same command again: it continues after the last committed window."
        raise type(failure)(failure.message, remedy=remedy) from error
    return result


def _store_quarantine_alert(ingestion: _Ingestion, run: IngestionRun) -> None:
    """Store an alert if unusually many rows of the file were refused; it is delivered after the last file."""
    earlier = earlier_counts(ingestion.store, ingestion.source.name)
    alert = quarantine_alert(run.file_id, run.name, run.counts, earlier)
    if alert is not None:
        store_alert(ingestion.store, alert, at=ingestion.at)


def _store_file(ingestion: _Ingestion, run: IngestionRun, path: Path) -> tuple[SummaryCollector, int]:
    """Summary of the file's remaining lines, and the number of identity links that are new or changed."""
    source, size = ingestion.source, path.stat().st_size
    summary, links = _summary_of_committed(path, source, run.offset), 0
    for window in _read_ahead(_prepared_windows(path, source, run.offset)):
        summary.add(window.chunk)
        if window.chunk.rows_read or window.users or window.chunk.notes.filtered:
            inserted = store_window(ingestion.store, run, window, source, ingestion.at)
            ingestion.late.add(inserted.new_events)
            links += inserted.links
        if ingestion.progress is not None:
            ingestion.progress(path.name, window.chunk.position, size)
    return summary, links


def _summary_of_committed(path: Path, source: Source, offset: int) -> SummaryCollector:
    """Summary of the windows up to line `offset`, which earlier runs stored; they are parsed again."""
    summary = SummaryCollector(source)
    if offset:
        for chunk in read_events(path, source):
            if chunk.last > offset:
                break
            summary.add(chunk)
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
