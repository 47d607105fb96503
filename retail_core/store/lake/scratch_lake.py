"""Temporary lakes: of parsed files, and of ledger windows that MongoDB still has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa

from retail_core.schemas import EVENT_ARROW
from retail_core.sources.source import Chunk
from retail_core.store.lake.applied_windows import has_window
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.links import stored_links_table
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.parquet_files import Rows, write_file
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.rows import (
    PendingWindow,
    Spool,
    pending_windows,
    read_window_events,
    read_window_users,
)
from retail_core.store.lake.table import write_days
from retail_core.store.lake.table_specs import EVENTS, IDENTITIES, USERS, USERS_ARROW, TableSpec
from retail_core.store.lake.table_version import TableVersion
from retail_core.store.mongo.connection import Store


def lake_of_windows(
    store: Store, versions: Mapping[str, TableVersion], links_before: datetime, folder: Path
) -> Lake:
    """Temporary lake below `folder` with what MongoDB has of the ledger windows of past versions.

    MongoDB does not record which links were stored at a time, so the lake has those of today.

    Args:
        store: the database.
        versions: by name of the table.
        links_before: links from this instant (aware) on are left out.
        folder: of the lake and of temporary files.
    """
    location, windows = LakeLocation(str(folder / "lake")), pending_windows(store, ())

    def windows_of(spec: TableSpec) -> list[PendingWindow]:
        ranges = versions[spec.name].windows if spec.name in versions else ()
        return [window for window in windows if has_window(ranges, window.window_id)]

    _write_events(location, read_window_events(store, windows_of(EVENTS)), folder)
    if USERS.name in versions:
        _write_table(location, USERS, [read_window_users(store, windows_of(USERS))])
    if IDENTITIES.name in versions:
        _write_table(location, IDENTITIES, [stored_links_table(store, links_before)])
    return Lake(location.url_of(""))


def scratch_lake(chunks: Iterable[Chunk], folder: Path) -> Lake:
    """Temporary lake below `folder`, written from parsed chunks without MongoDB or refused rows."""
    location, users = LakeLocation(str(folder / "lake")), [USERS_ARROW.empty_table()]

    def events() -> Iterator[pa.Table]:
        for chunk in chunks:
            if len(chunk.users):
                users.append(_arrow_table(chunk.users, USERS_ARROW))
            yield _arrow_table(chunk.events, EVENT_ARROW)

    _write_events(location, events(), folder)
    if len(users) > 1:
        _write_table(location, USERS, users)
    return Lake(location.url_of(""))


def _write_events(location: LakeLocation, tables: Iterable[pa.Table], folder: Path) -> None:
    events = LakeTable.create(location, EVENTS)
    with Spool(folder / "spool") as spool:
        for table in tables:
            spool.add(table)
        events.commit(write_days(events, spool, {day: [] for day in spool.days()}))


def _write_table(location: LakeLocation, spec: TableSpec, tables: list[pa.Table]) -> None:
    table = LakeTable.create(location, spec)
    file = write_file(table, Rows(tables))
    table.commit([file] if file else [])


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
