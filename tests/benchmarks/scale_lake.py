"""A long history written directly into a lake, as if its windows had been ingested and synchronized daily.

MongoDB gets the ledger documents of the windows, but not their events: a later `retail ingest` continues with
the next window, and a synchronization applies that window alone. What reads events of single users from
MongoDB (the service, exports) does not see this history; features and scores of many users read the lake.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from retail_core.sources.raw_tables import WINDOW_ROWS
from retail_core.store.lake.applied_windows import changed_versions
from retail_core.store.lake.delta_table import LakeFile, LakeTable
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.parquet_files import Rows, write_file
from retail_core.store.lake.rows import source_transactions
from retail_core.store.lake.table_specs import EVENTS
from retail_core.store.mongo.connection import Store
from tests.benchmarks.scale_shop import ShopSize, day_events

WRITERS = 2


def write_history(store: Store, size: ShopSize, days: list[date], *, writers: int = WRITERS) -> int:
    """Write the days that the lake does not have, one commit a day; returns the events of the lake."""
    location = LakeLocation(store.settings.lake_url)
    table = LakeTable.create(location, EVENTS)
    present = {file.partition[0] for file in table.files}
    missing = [day for day in days if day.isoformat() not in present]
    source = source_transactions(store)
    with ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        write = partial(_write_day, store.settings.lake_url, size)
        for file in _in_order([pool.submit(write, day) for day in missing]):
            applied = table.applied
            last = _append_windows(store, applied[0][1] if applied else 0, file.rows)
            table = table.commit([file], (), changed_versions(applied, ((1, last),)) | source)
    return table.rows


def _in_order(futures: list[Future[LakeFile | None]]) -> Iterator[LakeFile]:
    for future in futures:
        file = future.result()
        if file is not None:
            yield file


def _write_day(lake_url: str, size: ShopSize, day: date) -> LakeFile | None:
    table = LakeTable.open(LakeLocation(lake_url), EVENTS)
    if table is None:
        raise FileNotFoundError(lake_url)
    return write_file(table, Rows([day_events(size, day)]), (day.isoformat(),))


def _append_windows(store: Store, last: int, rows: int) -> int:
    """Ledger documents of the windows that would have brought so many events; returns the last window id."""
    count = -(-rows // WINDOW_ROWS)
    documents = [
        {
            "_id": f"window:{window_id}",
            "kind": "window",
            "window_id": window_id,
            "file_id": "file:generated",
            "state": "committed",
            "users": 0,
            "counts": {"inserted": min(WINDOW_ROWS, rows - number * WINDOW_ROWS)},
        }
        for number, window_id in enumerate(range(last + 1, last + 1 + count))
    ]
    for document in documents:
        # A repeated run of a killed one finds some of them.
        store.ledger.replace_one({"_id": document["_id"]}, document, upsert=True)
    return last + count


def write_log(events: pa.Table, path: Path) -> None:
    """Events as a canonical CSV log, in the order of their times."""
    events = events.sort_by([("event_time", "ascending"), ("event_id", "ascending")])
    price = pc.divide(pc.cast(events["price_minor"], pa.float64()), 100.0)
    columns = events.drop_columns(["event_id", "price_minor", "properties"]).append_column("price", price)
    at = columns.column_names.index("event_time")
    text = pc.strftime(pc.cast(events["event_time"], pa.timestamp("ms", tz="UTC")), "%Y-%m-%dT%H:%M:%SZ")
    csv.write_csv(columns.set_column(at, "event_time", text), path)
