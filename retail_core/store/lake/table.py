"""The lake: MongoDB's events and user attributes as Parquet by UTC event day, for analytical reads.

MongoDB is the system of record, the lake its copy: `sync` applies the ledger windows committed since the last
sync, and `rebuild` creates the same lake from MongoDB alone. The manifest lists the files of the lake;
replacing it is the commit, so a reader sees one state or the next, and a killed sync changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pymongo.errors import PyMongoError

from retail_core.errors import DependencyError, IntegrityError
from retail_core.schemas import EVENT_ARROW
from retail_core.sources.source import Chunk
from retail_core.store.lake.folder import LakeFolder
from retail_core.store.lake.link_file import newest_link_file, sync_links
from retail_core.store.lake.manifest import LakeFile, LakeState, Manifest
from retail_core.store.lake.merge import merge, truncate
from retail_core.store.lake.rows import (
    USERS_ARROW,
    PendingWindow,
    Spool,
    pending_windows,
    read_window_events,
    read_window_users,
    source_identity,
)
from retail_core.store.mongo.connection import Store, mongodb_error

__all__ = ["Lake", "LakeState", "SyncProgress", "rebuild", "sync"]

SyncProgress = Callable[[int, int], None]
"""Called with the number of events copied and in total."""

log = logging.getLogger(__name__)

MERGERS = 2
EVENT_KEYS = ("user_id", "event_time", "event_id")
USER_KEYS = ("user_id", "valid_from", "attributes")


class Lake:
    """Reader of the lake. Every call reads the committed manifest again; `snapshot` pins one."""

    def __init__(self, url: str) -> None:
        """Open the lake at `url` (a folder or an object-store URL), which need not exist.

        Raises:
            InputError: the URL is of an unknown kind.
        """
        self._folder = LakeFolder(url)
        self._pinned: Manifest | None = None
        self._pinned_links: str | None = None

    def snapshot(self) -> Lake:
        """A reader of the present state, which later syncs do not change.

        Its files are kept for `GENERATIONS_KEPT` commits.
        """
        pinned = object.__new__(Lake)
        pinned._folder, pinned._pinned = self._folder, self._manifest()
        # Last, since a sync writes the links before the events.
        pinned._pinned_links = self.identities_file()
        return pinned

    def state(self, before: datetime | None = None) -> LakeState:
        """Rows, days and times of the lake; of an empty lake zero rows and no days.

        Args:
            before: an aware instant; if given, only events before it count.


        Raises:
            IntegrityError: the manifest is damaged.
        """
        present = self._manifest()
        if before is not None:
            truncated = ((day, truncate(self._folder, file, before)) for day, file in present.days.items())
            present = replace(present, days={day: file for day, file in truncated if file.rows})
        return present.state()

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """Parquet files (absolute paths or URLs) of the UTC days that overlap [start, end), ascending.

        The files contain all rows of these days, also those outside [start, end).

        Args:
            start: aware; None means from the beginning.
            end: aware; None means to the end.
        """
        first = start.astimezone(UTC).date().isoformat() if start else ""
        last = (end.astimezone(UTC) - timedelta(microseconds=1)).date().isoformat() if end else "9999"
        days = self._manifest().days
        return [self._folder.url_of(file.path) for day, file in sorted(days.items()) if first <= day <= last]

    def users_file(self) -> str | None:
        """Parquet file of `user_id, valid_from, attributes`; None if there are no user attributes."""
        users = self._manifest().users
        return self._folder.url_of(users.path) if users else None

    def identities_file(self) -> str | None:
        """Parquet file of `from_id, to_id, linked_at`; None if there are no identity links."""
        return self._pinned_links if self._pinned else newest_link_file(self._folder)

    def _manifest(self) -> Manifest:
        return self._pinned or self._folder.read_manifest() or Manifest()


def sync(store: Store, *, progress: SyncProgress | None = None) -> LakeState:
    """Apply every committed ledger window that the lake does not have.

    A killed sync can be repeated, and concurrent ones are safe. A lake that is damaged, incomplete or of
    another database is rebuilt.

    Raises:
        DependencyError: MongoDB or the lake's file system fails.
        IntegrityError: a stored event is unusable.
    """
    return _apply(store, progress, from_scratch=False)


def rebuild(store: Store, *, progress: SyncProgress | None = None) -> LakeState:
    """Create the lake from MongoDB alone; rows and `data_hash` equal those of a synced lake.

    Raises:
        DependencyError: MongoDB or the lake's file system fails.
        IntegrityError: a stored event is unusable.
    """
    return _apply(store, progress, from_scratch=True)


def _apply(store: Store, progress: SyncProgress | None, *, from_scratch: bool) -> LakeState:
    folder = LakeFolder(store.settings.lake_url)
    try:
        with folder.locked(store.settings.home_dir):
            sync_links(store, folder)
            present = _present_manifest(folder)
            base = _base_manifest(store, folder, present, from_scratch=from_scratch)
            folder.delete_except(present.protected_paths)
            windows = pending_windows(store, base)
            log.debug("Synchronizing the lake: %d pending windows", len(windows))
            if not windows and base is present:
                return present.state()
            after = _advance(store, folder, base, windows, progress)
            folder.write_manifest(after)
            folder.delete_except(after.protected_paths)
            return after.state()
    except PyMongoError as error:
        uri = store.settings.mongodb_uri
        raise mongodb_error(uri.get_secret_value() if uri else "the embedded server", error) from error
    except OSError as error:
        raise DependencyError(
            f"The lake at {folder.url_of('')} cannot be written: {error}.",
            remedy="free space or correct RETAIL_LAKE; nothing was committed, run the command again.",
        ) from error


def _present_manifest(folder: LakeFolder) -> Manifest:
    try:
        return folder.read_manifest() or Manifest()
    except IntegrityError:
        return Manifest()


def _base_manifest(store: Store, folder: LakeFolder, present: Manifest, *, from_scratch: bool) -> Manifest:
    """Manifest to extend: the present one, emptied if it is damaged or of another database."""
    source = source_identity(store)
    sizes = folder.sizes()
    is_complete = all(sizes.get(path) == file.size for path, file in present.files.items())
    return (
        present if is_complete and source == present.source and not from_scratch else present.emptied(source)
    )


def _advance(
    store: Store,
    folder: LakeFolder,
    base: Manifest,
    windows: list[PendingWindow],
    progress: SyncProgress | None,
) -> Manifest:
    old_days = base.days if base.applied else {}
    old_users = base.users if base.applied else None
    total, copied = sum(window.events for window in windows), 0
    with Spool(store.settings.home_dir / "lake-spool") as spool:
        for table in read_window_events(store, windows):
            spool.add(table)
            copied += len(table)
            if progress:
                progress(copied, total)
        days = old_days | _merge_days(folder, old_days, spool, base.generation + 1)
    users = _merge_users(store, folder, windows, old_users, base.generation + 1)
    return base.advanced((window.window_id for window in windows), days, users)


def _merge_days(
    folder: LakeFolder, old_days: dict[str, LakeFile], spool: Spool, generation: int
) -> dict[str, LakeFile]:
    def merge_day(day: str) -> LakeFile:
        path = f"events/day={day}/{generation:08d}.parquet"
        return merge(folder, path, spool.tables(day), old_days.get(day), EVENT_KEYS)

    days = spool.days()
    with ThreadPoolExecutor(MERGERS) as pool:
        return dict(zip(days, pool.map(merge_day, days), strict=True))


def _merge_users(
    store: Store, folder: LakeFolder, windows: list[PendingWindow], old_file: LakeFile | None, generation: int
) -> LakeFile | None:
    rows = read_window_users(store, windows)
    if not len(rows):
        return old_file
    return merge(folder, f"users/{generation:08d}.parquet", [rows], old_file, USER_KEYS)


def scratch_lake(chunks: Iterable[Chunk], folder: Path) -> Lake:
    """Temporary lake below `folder`, written from parsed chunks without MongoDB or refused rows."""
    target, users = LakeFolder(str(folder / "lake")), [USERS_ARROW.empty_table()]
    with Spool(folder / "spool") as spool:
        for chunk in chunks:
            spool.add(_arrow_table(chunk.events, EVENT_ARROW))
            if len(chunk.users):
                users.append(_arrow_table(chunk.users, USERS_ARROW))
        days = {
            day: merge(target, f"events/day={day}/00000001.parquet", spool.tables(day), None, EVENT_KEYS)
            for day in spool.days()
        }
    users_file = merge(target, "users/00000001.parquet", users, None, USER_KEYS) if len(users) > 1 else None
    target.write_manifest(Manifest("scratch").advanced([1], days, users_file))
    return Lake(str(folder / "lake"))


def _arrow_table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The columns of `frame` with the types of `schema`; times are UTC."""
    columns = []
    for field in schema:
        column = frame[field.name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_localize(None)
        values = pa.array(column, from_pandas=True)
        columns.append(values.cast(pa.timestamp("us")) if pa.types.is_timestamp(values.type) else values)
    return pa.table(columns, names=schema.names).cast(schema)
