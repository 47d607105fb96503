"""Ways to get the events of 1,000 users, 200 each, for a list.

MongoDB's own documents as dictionaries, raw BSON, Arrow, or grouped by the server; one document per user with
encoded events; Parquet files by day through DuckDB. The last lines compare inserting events with inserting
them and appending them to a document per user.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bson import Binary
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongoarrow.api import Schema, find_arrow_all

from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.benchmarks.bench_serving import EVENTS_PER_USER, fill_histories
from tests.serving import AS_OF

ROUNDS = 3
FIELDS = ("event_time", "event_type", "item_id", "category", "price_minor", "quantity", "order_id")
ROW_BYTES = 41
OTHER_USERS = 20_000


def show(name: str, run: Callable[[], object]) -> None:
    """Print the median milliseconds of the rounds."""
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    print(f"{name:60} {1000 * median(seconds):8.0f} ms", flush=True)


def read_mongodb(store: Store, users: Sequence[str]) -> None:
    """Every way to read the events themselves."""
    period = {"$gte": AS_OF - timedelta(days=28), "$lt": AS_OF}
    query = {"user_id": {"$in": users}, "event_time": period}
    projection = dict.fromkeys(("user_id", *FIELDS), 1)
    numbers = {"event_time": pa.timestamp("ms"), "price_minor": pa.int64(), "quantity": pa.int64()}
    schema = Schema({name: numbers.get(name, pa.string()) for name in ("_id", "user_id", *FIELDS)})
    events = store.events
    raw = store.database.get_collection("events", CodecOptions(RawBSONDocument))
    show("count by the index", lambda: events.count_documents(query))
    show("find, dictionaries", lambda: list(events.find(query, projection, batch_size=1_000_000)))
    show("find, raw BSON", lambda: list(raw.find_raw_batches(query, projection, batch_size=1_000_000)))
    show("find, Arrow", lambda: find_arrow_all(events, query, schema=schema, projection=projection))
    pushes = {name: {"$push": {"$ifNull": [f"${name}", None]}} for name in ("_id", *FIELDS)}
    group = [{"$match": query}, {"$group": {"_id": "$user_id", **{f"c{k}": v for k, v in pushes.items()}}}]
    show("one document per user, grouped by the server", lambda: list(events.aggregate(group)))


def read_buckets(store: Store, users: Sequence[str]) -> None:
    """One stored document per user."""
    buckets = store.database["buckets"]
    rows = Binary(np.random.default_rng(1).bytes(EVENTS_PER_USER * ROW_BYTES))
    buckets.insert_many({"_id": user, "rows": rows} for user in users)
    show("one document per user, stored", lambda: list(buckets.find({"_id": {"$in": list(users)}})))


def read_parquet(folder: Path, users: Sequence[str]) -> None:
    """Files by day with the events of these and of many other users."""
    generator = np.random.default_rng(1)
    names = [*users, *(f"other{n}" for n in range(OTHER_USERS))]
    for day in range(28):
        size = len(names) * EVENTS_PER_USER // 28 // 2
        columns: dict[str, Any] = {
            "user_id": pa.array([names[n] for n in generator.integers(0, len(names), size)]),
            "ts": generator.integers(0, 86_400, size) + day * 86_400,
            "item_id": pa.array([f"i{n}" for n in generator.integers(0, 5_000, size)]),
            "price_minor": generator.integers(0, 5_000, size),
        }
        pq.write_table(pa.table(columns), folder / f"{day}.parquet")
    wanted = pa.table({"user_id": list(users)})
    connection = duckdb.connect()
    connection.register("wanted", wanted)
    query = f"from '{folder}/*.parquet' semi join wanted using (user_id) order by user_id, ts"
    show(f"28 Parquet files of {OTHER_USERS:,} users", lambda: connection.sql(query).to_arrow_table())


def write(store: Store) -> None:
    """Windows of 25,000 events of 5,000 users, with and without a document per user."""
    numbers = iter(range(10**9))

    def window() -> list[dict[str, Any]]:
        return [
            {"_id": f"w{next(numbers)}", "user_id": f"w{n % 5_000}", "event_time": AS_OF, "window_id": 1}
            for n in range(25_000)
        ]

    def append() -> None:
        events = window()
        store.events.insert_many(events, ordered=False)
        by_user: dict[str, list[str]] = {}
        for event in events:
            by_user.setdefault(event["user_id"], []).append(event["_id"])
        updates = [
            UpdateOne({"_id": user}, {"$push": {"events": {"$each": ids}}}, upsert=True)
            for user, ids in by_user.items()
        ]
        store.database["appended"].bulk_write(updates, ordered=False)

    show("insert 25,000 events", lambda: store.events.insert_many(window(), ordered=False))
    show("the same, and append them to documents of 5,000 users", append)


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        mongod = Settings(home=folder / "mongod")
        try:
            settings = Settings(home=folder / "shop", mongodb_uri=ensure_mongod(mongod))
            users = fill_histories(settings)
            with open_store(settings) as store:
                read_mongodb(store, users)
                read_buckets(store, users)
                read_parquet(folder, users)
                write(store)
        finally:
            stop_mongod(mongod)


if __name__ == "__main__":
    main()
