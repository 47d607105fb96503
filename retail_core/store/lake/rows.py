"""Rows from MongoDB to the lake: pending windows, reading ahead, and a spool by day."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from retail_core.errors import IntegrityError
from retail_core.schemas import EVENT_ARROW
from retail_core.store.lake.applied_windows import Ranges, contiguous, has_window
from retail_core.store.lake.table_specs import USERS_ARROW
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.row_counts import unusable_window, window_counts

BATCH_ROWS = 100_000
BATCH_WINDOWS = 1_000
READERS = 2
READ_AHEAD = 3
SPILL_BYTES = 160_000_000


@dataclass(frozen=True)
class PendingWindow:
    """A committed ledger window that the lake does not have; `events` and `users` are row counts."""

    window_id: int
    events: int
    users: int


def source_transactions(store: Store) -> dict[str, int]:
    """Identity of the events collection, as versions of application transactions by id.

    `database` is another one for another database, and for a collection that was dropped and created again.
    `removals` changes when files are undone: windows that the lake has applied are gone then.
    """
    collections = list(store.database.list_collections(filter={"name": "events"}))
    identity = collections[0]["info"]["uuid"].hex() if collections else ""
    digest = hashlib.blake2b(f"{store.database.name}:{identity}".encode(), digest_size=7).digest()
    started = store.ledger.count_documents({"undone": {"$exists": True}})
    done = store.ledger.count_documents({"undone": {"$exists": True}, "state": "done"}) if started else 0
    return {"database": int.from_bytes(digest), "removals": started << 31 | done}


def pending_windows(store: Store, applied: Ranges) -> list[PendingWindow]:
    """Committed windows that are not among `applied`, ascending.

    Raises:
        IntegrityError: the document of one has another shape.
    """
    query = {"kind": "window", "state": "committed", "window_id": {"$gt": contiguous(applied)}}
    fields = {"window_id": 1, "counts": 1, "users": 1}
    documents = _majority(store.ledger).find(query, fields).sort("window_id")
    windows = (_pending_window(document) for document in documents)
    return [window for window in windows if not has_window(applied, window.window_id)]


def _pending_window(document: Document) -> PendingWindow:
    users = document.get("users", 0)
    if not isinstance(users, int):
        raise unusable_window(document, f"users is {users!r}")
    return PendingWindow(int(document["window_id"]), window_counts(document).inserted, users)


def read_window_events(store: Store, windows: list[PendingWindow]) -> Iterator[pa.Table]:
    """Events of the windows as tables of `EVENT_ARROW`; threads fetch the next tables ahead."""
    pending = deque(_batches(windows))
    running: deque[Future[pa.Table]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        while pending or running:
            while pending and len(running) < READ_AHEAD:
                running.append(pool.submit(_fetch, store.events, pending.popleft(), EVENT_ARROW))
            yield running.popleft().result()


def read_window_users(store: Store, windows: list[PendingWindow]) -> pa.Table:
    """User attributes of the windows as one table of `USERS_ARROW`."""
    ids = [window.window_id for window in windows if window.users]
    groups = [ids[start : start + BATCH_WINDOWS] for start in range(0, len(ids), BATCH_WINDOWS)]
    return pa.concat_tables(
        [USERS_ARROW.empty_table(), *(_fetch(store.users, group, USERS_ARROW) for group in groups)]
    )


def _batches(windows: list[PendingWindow]) -> Iterator[list[int]]:
    batch: list[int] = []
    rows = 0
    for window in windows:
        if batch and (rows + window.events > BATCH_ROWS or len(batch) >= BATCH_WINDOWS):
            yield batch
            batch, rows = [], 0
        batch.append(window.window_id)
        rows += window.events
    if batch:
        yield batch


def _fetch(collection: Collection[Document], window_ids: list[int], schema: pa.Schema) -> pa.Table:
    from pymongoarrow.api import Schema, find_arrow_all

    stored = {
        "_id" if name == "event_id" else name: _stored_type(schema.field(name).type) for name in schema.names
    }
    query = {"window_id": {"$in": window_ids}}
    try:
        table = find_arrow_all(_majority(collection), query, schema=Schema(stored))
    except TypeError as error:
        raise _unusable_documents(collection, str(error)) from error
    table = table.select(list(stored)).rename_columns(schema.names)
    for name in schema.names:
        if not schema.field(name).nullable and table[name].null_count:
            raise _unusable_documents(collection, f"{table[name].null_count} without {name}")
    return table.cast(schema)


def _unusable_documents(collection: Collection[Document], reason: str) -> IntegrityError:
    return IntegrityError(
        f"Documents of `{collection.name}` are unusable: {reason}.",
        remedy="remove them; only write to it through `retail ingest` and the API.",
    )


def _stored_type(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("ms", tz=kind.tz) if pa.types.is_timestamp(kind) else kind


def _majority(collection: Collection[Document]) -> Collection[Document]:
    return collection.with_options(read_concern=ReadConcern("majority"))


class Spool:
    """Events by UTC day, in memory up to `spill_bytes`, beyond that in Arrow files of a temporary folder."""

    def __init__(self, folder: Path, *, spill_bytes: int = SPILL_BYTES) -> None:
        """Use `folder`, which is emptied first: its content is that of a killed run."""
        self._folder = folder
        self._spill_bytes = spill_bytes
        self._in_memory: dict[str, list[pa.Table]] = {}
        self._memory_bytes = 0
        self._files: dict[str, list[Path]] = {}

    def __enter__(self) -> Self:
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, table: pa.Table) -> None:
        """Add a table of `EVENT_ARROW`."""
        for day, day_table in _by_day(table):
            self._in_memory.setdefault(day, []).append(day_table)
        self._memory_bytes += table.nbytes
        if self._memory_bytes > self._spill_bytes:
            for day, tables in self._in_memory.items():
                self._spill(day, tables)
            self._in_memory, self._memory_bytes = {}, 0

    def days(self) -> list[str]:
        """Days with events (YYYY-MM-DD), ascending."""
        return sorted(self._in_memory.keys() | self._files.keys())

    def tables(self, day: str) -> list[pa.Table]:
        """Tables of a day; those in files are memory-mapped."""
        spilled = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self._files.get(day, [])]
        return [*spilled, *self._in_memory.get(day, [])]

    def _spill(self, day: str, tables: list[pa.Table]) -> None:
        files = self._files.setdefault(day, [])
        path = self._folder / day / f"{len(files)}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, tables[0].schema) as writer:
            writer.write_table(pa.concat_tables(tables).combine_chunks())
        files.append(path)


def _by_day(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    numbers = pc.cast(table["event_time"], pa.date32()).cast(pa.int32()).combine_chunks()
    order = pc.sort_indices(numbers)
    table, numbers = table.take(order), numbers.take(order)
    runs = pc.run_end_encode(numbers)
    for number, (start, end) in zip(
        runs.values.to_pylist(), pairwise([0, *runs.run_ends.to_pylist()]), strict=True
    ):
        yield (date(1970, 1, 1) + timedelta(days=number)).isoformat(), table.slice(start, end - start)
