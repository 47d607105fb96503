"""Whether the lake has exactly the rows of MongoDB, compared by day."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from retail_core.store.lake.applied_windows import has_window
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.links import STATE, links_state, stored_links_table
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.row_hashes import row_text, table_rows
from retail_core.store.lake.rows import PendingWindow, pending_windows, read_window_events, read_window_users
from retail_core.store.lake.table_specs import EVENTS, IDENTITIES, USERS, TableSpec
from retail_core.store.mongo.connection import Store

DaySums = tuple[int, int, int]
"""Number of rows, and the sums of both halves of their MD5."""

_NONE: DaySums = (0, 0, 0)


def differences(store: Store) -> list[str]:
    """One sentence for each table and day whose rows differ. Every row of both is read.

    Windows that the lake has yet to apply, and links that were added meanwhile, are no difference.

    Raises:
        IntegrityError: the lake or the ledger is damaged.
    """
    sentences: list[str] = []
    for spec in (EVENTS, USERS, IDENTITIES):
        table = LakeTable.open(LakeLocation(store.settings.lake_url), spec)
        if table is None:
            continue
        if spec is IDENTITIES and table.transaction(STATE) != links_state(store):
            continue
        lake = day_sums(table_rows(table), spec) if table.files else {}
        stored = _stored_sums(store, table, spec)
        for day in sorted(lake.keys() | stored.keys()):
            in_lake, in_mongodb = lake.get(day, _NONE), stored.get(day, _NONE)
            if in_lake != in_mongodb:
                sentences.append(_sentence(spec, day, in_lake, in_mongodb))
    return sentences


def _sentence(spec: TableSpec, day: str, in_lake: DaySums, in_mongodb: DaySums) -> str:
    of_day = f"{spec.name} of {day}" if day else f"{spec.name} without a time"
    if in_lake[0] == in_mongodb[0]:
        return f"{of_day}: the {in_lake[0]:,} rows of the lake differ from those of MongoDB"
    return f"{of_day}: {in_lake[0]:,} rows in the lake, {in_mongodb[0]:,} in MongoDB"


def _stored_sums(store: Store, table: LakeTable, spec: TableSpec) -> dict[str, DaySums]:
    windows = [window for window in pending_windows(store, ()) if has_window(table.applied, window.window_id)]
    total: dict[str, DaySums] = {}
    for rows in _stored_rows(store, windows, spec):
        for day, (count, lower, upper) in day_sums(rows, spec).items():
            before = total.get(day, _NONE)
            total[day] = (before[0] + count, before[1] + lower, before[2] + upper)
    return total


def _stored_rows(store: Store, windows: list[PendingWindow], spec: TableSpec) -> Iterable[pa.Table]:
    if spec is EVENTS:
        return read_window_events(store, windows)
    return [read_window_users(store, windows) if spec is USERS else stored_links_table(store)]


def day_sums(rows: ds.Dataset | pa.Table, spec: TableSpec) -> dict[str, DaySums]:
    """Number of rows and sums of their hashes by UTC day; those without a time have the day ""."""
    day = f"coalesce(strftime(make_timestamp(epoch_us({spec.time})), '%Y-%m-%d'), '')"
    sums = "count(*), sum(md5_number_lower(row)), sum(md5_number_upper(row))"
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        query = f"select day, {sums} from (select {day} as day, {row_text(spec)} as row from rows) group by 1"  # nosec B608 # noqa: S608 - names of columns
        groups = connection.execute(query).fetchall()
    return {name: (int(count), int(lower), int(upper)) for name, count, lower, upper in groups}
