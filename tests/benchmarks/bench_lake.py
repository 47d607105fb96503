"""How fast and how lean the lake's sync is, beside a bare `find_arrow_all` over the same events.

    python -m tests.benchmarks.bench_lake [--rows 1000000] [--rounds 3]

Prints one JSON line. The events are ingested once; then the bare read and a sync from nothing take
turns in one process, and medians are compared. The peak memory is that of one more sync from nothing in
a process of its own. A last figure is the sync of a late thousand events into the full lake.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pymongoarrow.api import Schema, find_arrow_all

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.schemas import EVENT_ARROW
from retail_core.settings import Settings
from retail_core.store.lake.table import rebuild, sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import stop_mongod
from tests.benchmarks.bench_ingest import write_events

STORED = {
    "_id" if field.name == "event_id" else field.name: (
        pa.timestamp("ms", tz="UTC") if field.name == "event_time" else field.type
    )
    for field in EVENT_ARROW
}


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def load(store: Store, folder: Path, rows: int, seed: int) -> None:
    """Ingest random events, as `retail ingest` does."""
    path = folder / f"{seed}.csv"
    write_events(path, rows, seed)
    ingest(store, [path], sources.get_preset("canonical"), at=datetime.now(UTC))
    path.unlink()


def measure(store: Store, folder: Path, rows: int, rounds: int) -> dict[str, float]:
    """All figures."""
    load(store, folder, rows, 7)
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(timed(lambda: find_arrow_all(store.events, {}, schema=Schema(STORED))))
        ours.append(timed(lambda: rebuild(store)))
    stored = rebuild(store).rows
    command = [sys.executable, "-m", "tests.benchmarks.bench_lake", "--peak", str(store.settings.home)]
    peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    load(store, folder, 1_000, 8)
    return {
        "rows": stored,
        "bare_rate": stored / statistics.median(bare),
        "lake_rate": stored / statistics.median(ours),
        "ratio": statistics.median(bare) / statistics.median(ours),
        "peak_mb": float(peak.stdout),
        "late_thousand_seconds": timed(lambda: sync(store)),
    }


def main() -> None:
    """Measure, or be the process whose memory is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=Path)
    arguments = parser.parse_args()
    if arguments.peak:
        with open_store(Settings(home=arguments.peak)) as store:
            rebuild(store)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory(prefix="bench", ignore_cleanup_errors=True) as folder:
        settings = Settings(home=Path(folder) / "home")
        try:
            with open_store(settings) as store:
                result = measure(store, Path(folder), arguments.rows, arguments.rounds)
        finally:
            stop_mongod(settings)
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == "__main__":
    main()
