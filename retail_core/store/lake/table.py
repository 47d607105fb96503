"""The lake: MongoDB's events and user attributes as Parquet by UTC event day, for whoever computes.

MongoDB is the record and the lake its mirror: `sync` applies what ingestion has committed since, and
`rebuild` makes the same lake from nothing. The manifest says which files are the lake; replacing it is
the commit, so a reader sees one state or the next, and a killed sync has changed nothing.
"""

from __future__ import annotations

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
from retail_core.store.lake.manifest import LakeFile, LakeState, Manifest
from retail_core.store.lake.merge import cut, merge
from retail_core.store.lake.rows import (
    USERS_ARROW,
    PendingWindow,
    Spool,
    pending_windows,
    read_events,
    read_users,
    source_identity,
)
from retail_core.store.mongo.connection import Store, unreachable

__all__ = ["Lake", "LakeState", "Progress", "rebuild", "sync"]

Progress = Callable[[int, int], None]
"""Called with events done and events in all."""

MERGERS = 2
EVENT_KEYS = ("user_id", "event_time", "event_id")
USER_KEYS = ("user_id", "valid_from", "attributes")


class Lake:
    """The read side. Every call looks at the committed manifest anew; `snapshot` pins one."""

    def __init__(self, url: str) -> None:
        """Open the lake at `url` (a folder or an object-store URL); it may not exist yet.

        Raises:
            InputError: no such kind of URL.
        """
        self._folder = LakeFolder(url)
        self._pinned: Manifest | None = None

    def snapshot(self) -> Lake:
        """The lake as it is now, whatever is synced later; its files outlast the next few commits."""
        pinned = object.__new__(Lake)
        pinned._folder, pinned._pinned = self._folder, self._manifest()
        return pinned

    def state(self, before: datetime | None = None) -> LakeState:
        """What is in it, or of it before an instant (aware); zero rows and no days where nothing was synced.

        Raises:
            IntegrityError: the manifest is damaged.
        """
        present = self._manifest()
        if before is not None:
            kept = ((day, cut(self._folder, one, before)) for day, one in present.days.items())
            present = replace(present, days={day: one for day, one in kept if one.rows})
        return present.state()

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """Parquet files (absolute paths or URLs) of the UTC days that overlap [start, end), ascending.

        Whole days: rows outside [start, end) are among them.
        """
        first = start.astimezone(UTC).date().isoformat() if start else ""
        last = (end.astimezone(UTC) - timedelta(microseconds=1)).date().isoformat() if end else "9999"
        days = self._manifest().days
        return [self._folder.url_of(one.path) for day, one in sorted(days.items()) if first <= day <= last]

    def users_file(self) -> str | None:
        """Parquet of `user_id, valid_from, attributes`; None where no attributes are known."""
        users = self._manifest().users
        return self._folder.url_of(users.path) if users else None

    def _manifest(self) -> Manifest:
        return self._pinned or self._folder.read_manifest() or Manifest()


def sync(store: Store, *, progress: Progress | None = None) -> LakeState:
    """Apply every committed ingestion window that the lake does not have.

    Safe to kill at any instant and to run several times at once. A lake that is damaged, incomplete or
    of another database is made anew.

    Raises:
        DependencyError: MongoDB or the lake's file system does not do what it should.
        IntegrityError: a stored event is unusable.
    """
    return _apply(store, progress, anew=False)


def rebuild(store: Store, *, progress: Progress | None = None) -> LakeState:
    """Make the lake anew from MongoDB alone; rows and `data_hash` are those of the synced one."""
    return _apply(store, progress, anew=True)


def _apply(store: Store, progress: Progress | None, *, anew: bool) -> LakeState:
    folder = LakeFolder(store.settings.lake_url)
    try:
        with folder.locked(store.settings.home_dir):
            present = _present(folder)
            base = _base(store, folder, present, anew=anew)
            folder.sweep(present.kept)
            windows = pending_windows(store, base)
            if not windows and base is present:
                return present.state()
            after = _advance(store, folder, base, windows, progress)
            folder.write_manifest(after)
            folder.sweep(after.kept)
            return after.state()
    except PyMongoError as error:
        uri = store.settings.mongodb_uri
        raise unreachable(uri.get_secret_value() if uri else "the embedded server", error) from error
    except OSError as error:
        raise DependencyError(
            f"The lake at {folder.url_of('')} cannot be written: {error}.",
            remedy="free space or correct RETAIL_LAKE; nothing was committed, run the command again.",
        ) from error


def _present(folder: LakeFolder) -> Manifest:
    try:
        return folder.read_manifest() or Manifest()
    except IntegrityError:
        return Manifest()


def _base(store: Store, folder: LakeFolder, present: Manifest, *, anew: bool) -> Manifest:
    """What to build on: the present state, or nothing where that is not to be trusted."""
    source = source_identity(store)
    sizes = folder.sizes()
    whole = all(sizes.get(path) == one.size for path, one in present.files.items())
    return present if whole and source == present.source and not anew else present.emptied(source)


def _advance(
    store: Store, folder: LakeFolder, base: Manifest, windows: list[PendingWindow], progress: Progress | None
) -> Manifest:
    kept = base.days if base.applied else {}
    kept_users = base.users if base.applied else None
    total, done = sum(window.events for window in windows), 0
    with Spool(store.settings.home_dir / "lake-spool") as spool:
        for table in read_events(store, windows):
            spool.add(table)
            done += len(table)
            if progress:
                progress(done, total)
        days = kept | _merge_days(folder, kept, spool, base.generation + 1)
    users = _merge_users(store, folder, windows, kept_users, base.generation + 1)
    return base.advanced((window.window_id for window in windows), days, users)


def _merge_days(
    folder: LakeFolder, kept: dict[str, LakeFile], spool: Spool, generation: int
) -> dict[str, LakeFile]:
    def one(day: str) -> LakeFile:
        path = f"events/day={day}/{generation:08d}.parquet"
        return merge(folder, path, spool.parts(day), kept.get(day), EVENT_KEYS)

    days = spool.days()
    with ThreadPoolExecutor(MERGERS) as pool:
        return dict(zip(days, pool.map(one, days), strict=True))


def _merge_users(
    store: Store, folder: LakeFolder, windows: list[PendingWindow], kept: LakeFile | None, generation: int
) -> LakeFile | None:
    rows = read_users(store, windows)
    if not len(rows):
        return kept
    return merge(folder, f"users/{generation:08d}.parquet", [rows], kept, USER_KEYS)


def scratch_lake(chunks: Iterable[Chunk], folder: Path) -> Lake:
    """Write the chunks' events and user attributes as a lake below `folder`; refused rows are left out."""
    target, users = LakeFolder(str(folder / "lake")), [USERS_ARROW.empty_table()]
    with Spool(folder / "spool") as spool:
        for chunk in chunks:
            spool.add(_arrow(chunk.events, EVENT_ARROW))
            if len(chunk.users):
                users.append(_arrow(chunk.users, USERS_ARROW))
        days = {
            day: merge(target, f"events/day={day}/00000001.parquet", spool.parts(day), None, EVENT_KEYS)
            for day in spool.days()
        }
    known = merge(target, "users/00000001.parquet", users, None, USER_KEYS) if len(users) > 1 else None
    target.write_manifest(Manifest("scratch").advanced([1], days, known))
    return Lake(str(folder / "lake"))


def _arrow(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The frame's columns as the schema says; times are UTC."""
    columns = []
    for field in schema:
        column = frame[field.name]
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_localize(None)
        values = pa.array(column, from_pandas=True)
        columns.append(values.cast(pa.timestamp("us")) if pa.types.is_timestamp(values.type) else values)
    return pa.table(columns, names=schema.names).cast(schema)
