"""How fast and how lean ingestion is, beside a bare `insert_many` loop over the same documents.

    python -m tests.benchmarks.bench_ingest [--rows 1000000]
    python -m tests.benchmarks.bench_ingest --ga4 [--rows 200000]

Prints one JSON line. Both loops write with w: majority in batches of 10,000, unordered, into a database
with the same indexes on one embedded server, each in a process of its own. Building the documents is
not part of the bare loop's time; hashing, reading, parsing, checking and the ledger are part of ours.

With --ga4, native JSON lines of Google Analytics are ingested instead; the rates are rows of the file per
second of wall time, and per second of CPU time of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.ingest.window_writer import INSERT_BATCH, prepare_window
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Document, Store, open_store
from retail_core.store.mongod.embedded import stop_mongod
from tests.ga4_export import random_records, write_json_lines

HEADER = (
    "user_id,event_time,event_type,item_id,category,brand,"
    "price,quantity,currency,session_id,platform,order_id"
)
TYPES = ("view_item", "view_item", "view_item", "search", "add_to_cart", "screen_view", "purchase")
GROUP = 100_000
START = np.datetime64("2025-01-01T00:00:00", "ms")


def write_events(path: Path, rows: int, seed: int = 7) -> None:
    """A canonical CSV of random events of 50,000 users over 45 days."""
    rng = np.random.default_rng(seed)
    with path.open("w") as out:
        out.write(HEADER + "\n")
        for done in range(0, rows, GROUP):
            out.writelines(_lines(rng, min(GROUP, rows - done)))


def _lines(rng: np.random.Generator, rows: int) -> Iterator[str]:
    users, items = rng.integers(0, 50_000, rows).tolist(), rng.integers(0, 5_000, rows).tolist()
    prices, kinds = rng.integers(100, 20_000, rows).tolist(), rng.integers(0, len(TYPES), rows).tolist()
    instants = START + rng.integers(0, 45 * 86_400_000, rows).astype("timedelta64[ms]")
    times = np.datetime_as_string(instants, unit="ms").tolist()
    names = [TYPES[kind] for kind in kinds]
    for user, item, price, kind, at in zip(users, items, prices, names, times, strict=True):
        head, session = f"u{user},{at}Z,{kind}", f"s{user}-{item}"
        if kind in {"search", "screen_view"}:
            yield f"{head},,,,,,,{session},ios,\n"
            continue
        order = f"o{user}-{price}" if kind == "purchase" else ""
        quantity = "" if kind == "view_item" else "1"
        product = f"i{item},cat{item % 40},b{item % 200},{price // 100}.{price % 100:02d},{quantity},EUR"
        yield f"{head},{product},{session},android,{order}\n"


def plain(store: Store, path: Path) -> dict[str, float]:
    """The bare loop: seconds spent in `insert_many` alone."""
    seconds, rows = 0.0, 0
    for chunk in sources.read_events(path, sources.get_preset("canonical")):
        documents: list[Document] = prepare_window(chunk, "canonical").events
        for document in documents:
            document["window_id"] = 1
        started = time.perf_counter()
        for start in range(0, len(documents), INSERT_BATCH):
            store.events.insert_many(documents[start : start + INSERT_BATCH], ordered=False)
        seconds += time.perf_counter() - started
        rows += len(documents)
    return {"rows": rows, "seconds": seconds}


def ours(store: Store, path: Path) -> dict[str, float]:
    """The whole ingestion, and the most memory this process ever had, in MB."""
    started = time.perf_counter()
    report = ingest(store, [path], sources.get_preset("canonical"), at=datetime.now(UTC))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": report.events_inserted, "seconds": seconds, "peak_mb": peak}


def ga4(store: Store, path: Path) -> dict[str, float]:
    """The whole ingestion of a native export, with CPU time and the most memory that this process had."""
    started, cpu = time.perf_counter(), time.process_time()
    report = ingest(store, [path], sources.get_preset("ga4"), at=datetime.now(UTC))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"events": report.events_inserted, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak}


def measure_ga4(folder: Path, rows: int) -> dict[str, float]:
    """Ingest `rows` generated rows of a native export."""
    home, path = folder / "home", folder / "events.json"
    write_json_lines(path, random_records(rows))
    try:
        ingestion = run_stage("ga4", home, path)
    finally:
        stop_mongod(Settings(home=home))
    return {
        "rows": rows,
        "mb": path.stat().st_size / 1e6,
        "row_rate": rows / ingestion["seconds"],
        "rows_per_cpu_second": rows / ingestion["cpu_seconds"],
        **ingestion,
    }


def run_stage(stage: str, home: Path, path: Path) -> dict[str, float]:
    """One stage in a process and a database of its own; the database is dropped afterwards."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_ingest", "--stage", stage, str(home), str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure, or run one stage of the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ga4", action="store_true")
    parser.add_argument("--stage", nargs=3)
    arguments = parser.parse_args()
    if arguments.stage:
        stage, home, path = arguments.stage
        with open_store(Settings(home=Path(home), mongodb_database=f"bench_{stage}")) as store:
            result = {"plain": plain, "ours": ours, "ga4": ga4}[stage](store, Path(path))
            store.client.drop_database(store.database.name)
        print(json.dumps(result))
        return
    with tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
        if arguments.ga4:
            result = measure_ga4(Path(folder), arguments.rows)
            print(json.dumps({name: round(value, 3) for name, value in result.items()}))
            return
        home, path = Path(folder) / "home", Path(folder) / "events.csv"
        write_events(path, arguments.rows)
        try:
            bare, ingestion = run_stage("plain", home, path), run_stage("ours", home, path)
        finally:
            stop_mongod(Settings(home=home))
    rates = {
        "plain_rate": bare["rows"] / bare["seconds"],
        "ingest_rate": ingestion["rows"] / ingestion["seconds"],
    }
    result = {"rows": arguments.rows, **rates, "ratio": rates["ingest_rate"] / rates["plain_rate"]}
    print(
        json.dumps(
            {name: round(value, 3) for name, value in (result | {"peak_mb": ingestion["peak_mb"]}).items()}
        )
    )


if __name__ == "__main__":
    main()
