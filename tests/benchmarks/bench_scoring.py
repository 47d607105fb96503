"""A million users from the lake to stored predictions: how long it takes, and in how much memory.

    python -m tests.benchmarks.bench_scoring [--users 1000000] [--events 6]

The lake is made by DuckDB: so many events of each user in the look-back, the newest of them within the
eligibility window. MongoDB is the embedded one, empty before; so nothing has to be synchronised first, and
all that `retail score` does after that is measured. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from retail_core.features.engine import EngineOptions
from retail_core.schemas import EVENT_ARROW
from retail_core.scoring.list_predictions import predict_eligible
from retail_core.scoring.prediction_storage import store_predictions
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.benchmarks.simulated_lake import DayFiles
from tests.champion import champion_of
from tests.serving import AS_OF, register_shop

TREES, DAYS, WEEK = 100, 28, 7 * 86_400
_EVENTS = """
create table log as
select md5(concat(u, ':', n)) as event_id, concat('u', u) as user_id,
    $1::timestamptz - to_seconds(1 + hash(u, n) % if(n = 0, $2, $3)) as event_time,
    ['view_item', 'view_item_list', 'search', 'add_to_cart', 'purchase'][(1 + hash(n, u) % 5)::int]
        as event_type,
    concat('i', hash(u, n, 1) % 5000) as item_id, concat('c', hash(u, n, 1) % 50) as category,
    null::varchar as brand, (100 + hash(u, n, 2) % 9900)::bigint as price_minor, 1::bigint as quantity,
    'EUR' as currency, null::varchar as session_id, 'web' as platform, null::varchar as order_id,
    null::varchar as properties
from range($4) as users(u), range($5) as numbers(n)
"""


def made_lake(folder: Path, users: int, events: int) -> DayFiles:
    """Parquet by day, sorted by user and time within it, as the lake has it."""
    folder.mkdir()
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(_EVENTS, [AS_OF, WEEK - 2, DAYS * 86_400 - 2, users, events])
        columns = ", ".join(EVENT_ARROW.names)
        days = connection.execute("select distinct event_time::date from log").fetchall()
        for (day,) in days:
            rows = f"from log where event_time::date = '{day}' order by user_id, event_time, event_id"
            target = folder / f"{day}.parquet"
            connection.execute(
                f"copy (select {columns} {rows}) to '{target}' (compression zstd, row_group_size 100000)"
            )
    return DayFiles(folder)


@contextmanager
def timing(results: dict[str, float], name: str) -> Iterator[None]:
    """Seconds of the block."""
    begun = time.perf_counter()
    yield
    results[f"{name}_seconds"] = time.perf_counter() - begun


def measure(folder: Path, users: int, events: int) -> dict[str, float]:
    """Score, store, and mirror to the lake."""
    mongod = Settings(home=folder / "mongod")
    results: dict[str, float] = {}
    try:
        settings = Settings(home=folder / "shop", mongodb_uri=ensure_mongod(mongod))
        register_shop(settings, TREES)
        lake = made_lake(folder / "days", users, events)
        served, engine = champion_of(settings), EngineOptions.from_settings(settings)
        with open_store(settings) as store:
            with timing(results, "predict"):
                predictions = predict_eligible(lake, served, AS_OF, engine)
            with timing(results, "store"):
                store_predictions(store, predictions, AS_OF, served.spec.version)
            stored = store.predictions.count_documents({})
    finally:
        stop_mongod(mongod)
    seconds = sum(results.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "users": len(predictions),
        "stored": stored,
        "seconds": seconds,
        **results,
        "users_per_second": len(predictions) / seconds,
        "peak_mb": peak,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder), options.users, options.events)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
