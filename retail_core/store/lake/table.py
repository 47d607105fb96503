"""The lake: MongoDB's events and user attributes as Delta tables, for analytical reads.

MongoDB is the system of record, the lake its copy: `sync` applies the ledger windows committed since the last
sync, and `rebuild` creates the same lake from MongoDB alone. Each table is synchronized by one commit, which
records the windows it applies: a reader sees one version or the next, a killed sync changes nothing, and of
two concurrent ones the second starts again without the windows of the first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pymongo.errors import PyMongoError

from retail_core.errors import InputError, IntegrityError
from retail_core.store.lake import old_format
from retail_core.store.lake.applied_windows import add_to_ranges, changed_versions, gaps
from retail_core.store.lake.commit_attempts import CommitConflict, until_committed
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.lake_file import DamagedFileError, LakeFile
from retail_core.store.lake.links import STATE, links_state, replace_links
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.merging import files_to_merge
from retail_core.store.lake.parquet_files import Rows, write_file
from retail_core.store.lake.prediction_table import take_over_old_predictions
from retail_core.store.lake.reader import Lake, LakeState
from retail_core.store.lake.rows import (
    PendingWindow,
    Spool,
    pending_windows,
    read_window_events,
    read_window_users,
    source_transactions,
)
from retail_core.store.lake.storage_errors import lake_error
from retail_core.store.lake.table_specs import (
    EVENTS,
    IDENTITIES,
    PREDICTIONS,
    TABLES,
    USERS,
    TableSpec,
)
from retail_core.store.lake.version_pins import pinned_files
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.ledger_checks import check_windows, refuse_unknown_windows
from retail_core.store.mongo.server_errors import mongodb_error

__all__ = ["Lake", "LakeState", "SyncProgress", "damage", "pending", "rebuild", "sync"]

SyncProgress = Callable[[int, int], None]
"""Called with the number of events copied and in total."""

log = logging.getLogger(__name__)

MERGERS = 2
KEPT_HOURS = 24
"""How long a superseded file is kept for readers. Versions that a training read: `lake_retention_days`."""

UNRECORDED_WINDOWS = 1_000
"""Windows without user attributes are recorded in that table once there are this many."""


@dataclass(frozen=True)
class _Sync:
    """What one synchronization needs besides the table."""

    store: Store
    location: LakeLocation
    progress: SyncProgress | None
    from_scratch: bool
    source: dict[str, int]


def sync(store: Store, *, progress: SyncProgress | None = None) -> LakeState:
    """Apply every committed ledger window that the lake does not have.

    A killed sync can be repeated, and concurrent ones, also of other homes with the same MongoDB, are safe. A
    lake that is damaged, of the format before Delta Lake, or, below the home, of another database is rebuilt.

    Raises:
        DependencyError: MongoDB or the lake's file system fails.
        InputError: the lake at RETAIL_LAKE is of another database, or of a newer release.
        IntegrityError: a stored event is unusable.
    """
    return _apply(store, progress, from_scratch=False)


def rebuild(store: Store, *, progress: SyncProgress | None = None) -> LakeState:
    """Create the lake from MongoDB alone; rows and `data_hash` equal those of a synced lake.

    Raises:
        DependencyError: MongoDB or the lake's file system fails.
        InputError: the lake is of a newer release.
        IntegrityError: a stored event is unusable.
    """
    return _apply(store, progress, from_scratch=True)


def pending(store: Store) -> int:
    """Number of committed ledger windows whose events the lake does not have.

    Raises:
        IntegrityError: the log is damaged.
    """
    table = LakeTable.open(LakeLocation(store.settings.lake_url), EVENTS)
    return len(pending_windows(store, table.applied if table else ()))


def damage(lake_url: str, *, read_objects: bool = False) -> list[str]:
    """One sentence for each file of the lake that is not what was committed, see `file_checks`."""
    sentences: list[str] = []
    for spec in TABLES:
        try:
            table = LakeTable.open(LakeLocation(lake_url), spec)
        except IntegrityError as error:
            sentences.append(error.message.rstrip("."))
        else:
            sentences += table.damaged_files(read_objects=read_objects).values() if table else []
    return sentences


def _apply(store: Store, progress: SyncProgress | None, *, from_scratch: bool) -> LakeState:
    from deltalake.exceptions import DeltaError

    location = LakeLocation(store.settings.lake_url)
    try:
        with location.locked(store.settings.home_dir):
            return _apply_locked(store, location, progress, from_scratch=from_scratch)
    except PyMongoError as error:
        raise mongodb_error(store.settings, error) from error
    except (OSError, DeltaError) as error:
        raise lake_error(location, error) from error


def _apply_locked(
    store: Store, location: LakeLocation, progress: SyncProgress | None, *, from_scratch: bool
) -> LakeState:
    replaces_old = old_format.has_old_format(location)
    if replaces_old and LakeTable.open(location, EVENTS) is None:
        log.warning(
            "The lake at %s has the format of an earlier release and is written anew as Delta Lake.",
            location.url_of(""),
        )

    def attempt(*, from_scratch: bool = from_scratch) -> None:
        run = _Sync(store, location, progress, from_scratch, source_transactions(store))
        try:
            # The reader opens events first, so that links and attributes are never older than they are.
            _synchronize_links(run)
            _synchronize(run, USERS)
            _synchronize(run, EVENTS)
            _tidy_predictions(location)
        except CommitConflict:
            log.info("Another process has written to the lake; the synchronization starts again.")
            raise
        except DamagedFileError as error:
            log.warning("%s The lake is rebuilt from MongoDB.", error.message)
            attempt(from_scratch=True)

    until_committed(location, attempt)
    if replaces_old:
        take_over_old_predictions(location)
        old_format.delete_old_files(location)
    return Lake(store.settings.lake_url).state()


def _synchronize_links(run: _Sync) -> None:
    table, is_rebuilt = _present_table(run, IDENTITIES)
    if table is None:
        # A release before this table left a file there.
        has_links = run.store.identities.find_one({}, {"_id": 1}) or run.location.sizes(IDENTITIES.name)
        if not has_links:
            return
        table = LakeTable.create(run.location, IDENTITIES)
    if is_rebuilt or table.transaction(STATE) != links_state(run.store):
        table = replace_links(run.store, table, run.source)
    elif not run.location.is_local:
        return
    _delete_unreferenced(run, table)


def _synchronize(run: _Sync, spec: TableSpec) -> None:
    """Bring one table up to date by one commit."""
    table, is_rebuilt = _present_table(run, spec)
    applied = () if is_rebuilt or table is None else table.applied
    windows = pending_windows(run.store, applied)
    after = add_to_ranges(applied, (window.window_id for window in windows))
    if spec is EVENTS:
        log.debug("Synchronizing the lake: %d pending windows", len(windows))
        refuse_unknown_windows(run.store, gaps(after))
    if not is_rebuilt and not _is_due(windows, spec):
        # Listing an object store is slow: its files are tidied after commits only.
        if table is not None and run.location.is_local:
            _delete_unreferenced(run, table)
        return
    if table is None:
        # Created before MongoDB is read: an erasure meanwhile commits to it, and this sync starts again.
        table = LakeTable.create(run.location, spec)
        if table.applied:
            raise CommitConflict
    present = () if is_rebuilt else table.files
    new_files = _new_event_files if spec is EVENTS else _new_user_files
    added, superseded = new_files(run, table, windows, present)
    removed = table.files if is_rebuilt else superseded
    transactions = changed_versions(table.applied, after) | run.source
    _delete_unreferenced(run, table.commit(added, removed, transactions))


def _delete_unreferenced(run: _Sync, table: LakeTable) -> None:
    """Files that no version has are those of killed runs where the lock excludes all other writers."""
    days = run.store.settings.lake_retention_days
    # A day longer than the files, so that a pinned version can be opened to its end.
    table.keep_log(days + 1).delete_unreferenced(
        KEPT_HOURS,
        stray_hours=0 if table.location.is_local else None,
        pinned=lambda version: pinned_files(version, days),
    )


def _tidy_predictions(location: LakeLocation) -> None:
    """Take damaged files out of the table of predictions, and delete superseded ones."""
    try:
        table = LakeTable.open(location, PREDICTIONS)
    except IntegrityError as error:
        log.warning("%s The table is deleted; MongoDB has the predictions.", error.message)
        location.delete_folder(PREDICTIONS.name)
        return
    if table is None:
        return
    damaged = table.damaged_files()
    for file, sentence in damaged.items():
        run, version = file.partition
        log.warning("%s. Run `retail score` of %s with version %s again.", sentence, run, version)
    after = table.commit(removed=damaged) if damaged else table
    after.delete_unreferenced(KEPT_HOURS)


def _is_due(windows: list[PendingWindow], spec: TableSpec) -> bool:
    if spec is EVENTS:
        return bool(windows)
    return any(window.users for window in windows) or len(windows) >= UNRECORDED_WINDOWS


def _present_table(run: _Sync, spec: TableSpec) -> tuple[LakeTable | None, bool]:
    """The present table, and whether its rows are written anew from MongoDB.

    Raises:
        InputError: the table is of another database or of a newer release.
    """
    try:
        table = LakeTable.open(run.location, spec)
    except IntegrityError as error:
        log.warning("%s It is rebuilt from MongoDB.", error.message)
        run.location.delete_folder(spec.name)
        return None, True
    if table is None:
        return None, False
    if run.from_scratch:
        return table, True
    source = {name: table.transaction(name) for name in run.source}
    if source["database"] not in {None, run.source["database"]} and run.store.settings.lake is not None:
        raise InputError(
            f"The lake at {run.location.url_of('')} is of another MongoDB database.",
            remedy="set RETAIL_LAKE to another place, or replace the lake with `retail lake rebuild`.",
        )
    damages = table.damaged_files()
    for damaged in damages.values():
        log.warning("%s. The lake is rebuilt from MongoDB.", damaged)
    is_other_source = None not in source.values() and source != run.source
    return table, bool(damages) or is_other_source


def _new_event_files(
    run: _Sync, table: LakeTable, windows: list[PendingWindow], present: Iterable[LakeFile]
) -> tuple[list[LakeFile], list[LakeFile]]:
    """One new file per day of the windows, and the present files whose rows are in them too."""
    by_day: dict[str, list[LakeFile]] = {}
    for file in present:
        by_day.setdefault(file.partition[0], []).append(file)
    total, copied = sum(window.events for window in windows), 0
    with Spool(run.store.settings.home_dir / "lake-spool") as spool:
        for rows in read_window_events(run.store, windows):
            spool.add(rows)
            copied += len(rows)
            if run.progress:
                run.progress(copied, total)
        if copied != total:
            check_windows(run.store, [window.window_id for window in windows])
        superseded = files_to_merge({day: by_day.get(day, []) for day in spool.days()})
        added = write_days(table, spool, superseded)
    return added, [file for files in superseded.values() for file in files]


def write_days(table: LakeTable, spool: Spool, superseded: dict[str, list[LakeFile]]) -> list[LakeFile]:
    """One new file per day of the spool, with the rows of the files that it replaces."""

    def write_day(day: str) -> LakeFile | None:
        return write_file(table, Rows(spool.tables(day), superseded[day]), (day,))

    with ThreadPoolExecutor(MERGERS) as pool:
        return [file for file in pool.map(write_day, spool.days()) if file]


def _new_user_files(
    run: _Sync, table: LakeTable, windows: list[PendingWindow], present: Iterable[LakeFile]
) -> tuple[list[LakeFile], list[LakeFile]]:
    """The one file of user attributes, with the rows of the windows, and the files that it replaces."""
    rows, present = read_window_users(run.store, windows), list(present)
    if not len(rows):
        return [], []
    file = write_file(table, Rows([rows], present))
    return [file] if file else [], present
