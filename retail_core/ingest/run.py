"""Files into MongoDB: parsed in one thread, inserted in another, resumable at every instant."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pymongo.errors import PyMongoError

from retail_core.errors import DependencyError
from retail_core.ingest.window import Prepared, prepare, store_window
from retail_core.sources.files import content_hash, file_kind
from retail_core.sources.read import read_events
from retail_core.sources.source import Source
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ledger import Counts, FileKey, Run

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes of it that are stored, and its size."""


@dataclass(frozen=True)
class IngestReport:
    """What became of the files' rows in this run; rows of skipped files are not among them.

    rows_read = events_inserted + duplicates + quarantined, always. `seconds` is the whole duration.
    """

    files: int
    rows_read: int
    events_inserted: int
    duplicates: int
    quarantined: int
    skipped_files: int
    seconds: float


def ingest(
    store: Store,
    paths: Sequence[Path],
    source: Source,
    *,
    timezone: str | None = None,
    at: datetime,
    progress: Progress | None = None,
) -> IngestReport:
    """Store the events of the files; those already ingested are skipped, unfinished ones are gone on with.

    Args:
        store: where to.
        paths: CSV, .gz, .zst, Parquet or JSON lines, told apart by content.
        source: how the files are written.
        timezone: zone of times without one, instead of the source's.
        at: when this happens, for the ledger.
        progress: told after each window.

    Raises:
        InputError: a file cannot be read so, or another run is at work on it.
        IntegrityError: counts do not add up; the window at hand was not committed.
        DependencyError: MongoDB went away; a further run goes on from the last window.
    """
    started = time.perf_counter()
    source = source.with_timezone(timezone)
    for path in paths:
        file_kind(path)
    counts, skipped = Counts(), 0
    for path in paths:
        done = _ingest_file(store, path, source, at, progress)
        skipped += done is None
        counts += done or Counts()
    return IngestReport(
        files=len(paths),
        rows_read=counts.rows_read,
        events_inserted=counts.inserted,
        duplicates=counts.duplicates,
        quarantined=counts.quarantined,
        skipped_files=skipped,
        seconds=round(time.perf_counter() - started, 3),
    )


def _ingest_file(
    store: Store, path: Path, source: Source, at: datetime, progress: Progress | None
) -> Counts | None:
    key = FileKey(
        path, content_hash(path), source.name, source.options_hash(), source.timezone, source.policy
    )
    try:
        run = ledger.begin(store, key.file_id, key.about(), at)
        if run is None:
            return None
        before = run.counts
        with ledger.held(store, run):
            _store_file(store, run, path, source, at, progress)
            ledger.finish(store, run, at)
    except PyMongoError as error:
        raise DependencyError(
            f"MongoDB failed while {path} was ingested: {error}.",
            remedy="run the same command again; it goes on after the last window.",
        ) from error
    return run.counts - before


def _store_file(
    store: Store, run: Run, path: Path, source: Source, at: datetime, progress: Progress | None
) -> None:
    size = path.stat().st_size
    for window in _ahead(_prepared(path, source, run.offset)):
        if window.chunk.rows_read or window.users:
            store_window(store, run, window, (source, at))
        if progress is not None:
            progress(path.name, window.chunk.position, size)


def _prepared(path: Path, source: Source, skip: int) -> Iterator[Prepared]:
    for chunk in read_events(path, source, skip=skip):
        yield prepare(chunk, source.name)


def _ahead(windows: Iterator[Prepared]) -> Iterator[Prepared]:
    """The same windows, the next one being prepared in a thread while the caller works on this one."""
    with ThreadPoolExecutor(1, thread_name_prefix="parse") as pool:
        coming: Future[Prepared | None] = pool.submit(next, windows, None)
        while (window := coming.result()) is not None:
            coming = pool.submit(next, windows, None)
            yield window
