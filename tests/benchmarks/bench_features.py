"""How long the features of many daily cut-offs take, beside a bare group-by over the same Parquet.

    python -m tests.benchmarks.bench_features [--events 1500000] [--users 20000] [--cutoffs 30]

Prints one JSON line: seconds and peak memory of the batch, the same of a DuckDB `group by user, event`,
and milliseconds of the online interpreter for users with 500 events.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retail_core.features.batch import compute
from retail_core.features.cutoffs import daily_pairs
from retail_core.features.definitions import Question, default_feature_set
from retail_core.features.online import OnlineEvent, compute_one
from retail_core.features.reader import from_micros
from retail_core.schemas import EVENT_ARROW, EVENT_TYPES
from tests.feature_logs import DAY

START = datetime(2025, 1, 1, tzinfo=UTC)
SHARES = (0.5, 0.1, 0.1, 0.06, 0.01, 0.02, 0.02, 0.02, 0.002, 0.1, 0.068)
MEAN_SESSION = 8


@dataclass(frozen=True)
class DayFiles:
    """A folder with one Parquet file a day, named by the day."""

    folder: Path

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        return [
            str(path)
            for path in sorted(self.folder.glob("*.parquet"))
            if (start is None or path.stem >= start.date().isoformat())
            and (end is None or path.stem <= end.date().isoformat())
        ]

    def users_file(self) -> str | None:
        return None


def write_days(folder: Path, events: int, users: int, days: int, seed: int = 1) -> DayFiles:
    """Sessions of unequally active users over the days, sorted by user and time within a day."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0, 1, users)
    sessions = events // MEAN_SESSION + 1
    length = rng.geometric(1 / MEAN_SESSION, sessions)
    session = np.repeat(np.arange(sessions), length)[:events]
    user = rng.choice(users, sessions, p=activity / activity.sum())[session]
    pauses = np.cumsum(rng.exponential(40_000, len(session)))
    first = np.r_[True, np.diff(session) > 0]
    inside = pauses - np.maximum.accumulate(np.where(first, pauses, 0))
    begin = rng.integers(0, days * 86_400_000, sessions)[session]
    at = (begin + inside).astype(np.int64) + int(START.timestamp() * 1000)
    kind = rng.choice(len(EVENT_TYPES), len(session), p=np.array(SHARES) / sum(SHARES))
    item = rng.zipf(1.3, len(session)) % 5_000
    order = np.lexsort((at, user, at // 86_400_000))
    user, at, kind, item = user[order], at[order], kind[order], item[order]
    nameless = np.isin(kind, [EVENT_TYPES.index(name) for name in ("search", "screen_view", "session_start")])
    columns = {
        "event_id": pa.array([f"{i:032x}" for i in range(len(at))]),
        "user_id": pa.array(np.char.add("u", user.astype(str))),
        "event_time": pa.array(at * 1000).cast(pa.timestamp("us", tz="UTC")),
        "event_type": pa.array(np.array(EVENT_TYPES)[kind]),
        "item_id": pa.array(np.char.add("i", item.astype(str)), mask=nameless),
        "category": pa.array(np.char.add("c", (item % 60).astype(str)), mask=nameless),
        "price_minor": pa.array(item * 37 % 9_000 + 100, mask=nameless),
    }
    empty = {field.name: pa.nulls(len(at), field.type) for field in EVENT_ARROW}
    table = pa.table({**empty, **columns}, schema=EVENT_ARROW)
    day = at // 86_400_000
    edges = [*np.flatnonzero(np.r_[True, np.diff(day) > 0]), len(day)]
    for begin_row, end_row in pairwise(edges):
        name = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(day[begin_row]))).date().isoformat()
        pq.write_table(table.slice(begin_row, end_row - begin_row), folder / f"{name}.parquet")
    return DayFiles(folder)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare(lake: DayFiles) -> None:
    """What any engine has to do at least: read, and group once."""
    with duckdb.connect() as connection:
        connection.read_parquet(lake.files()).aggregate("user_id, event_type, count(*)").fetchall()


def online(events: int = 500, rounds: int = 300) -> tuple[float, float]:
    """Milliseconds (median, 99th percentile) for one user, events in random order."""
    rng = np.random.default_rng(3)
    now = 1_740_000_000_000_000
    feature_set = default_feature_set(Question())
    took = []
    for _ in range(rounds):
        backs = rng.integers(1, 28 * DAY // 1000, events)
        kinds = rng.choice(EVENT_TYPES, events, p=np.array(SHARES) / sum(SHARES)).tolist()
        items = rng.integers(0, 200, events)
        history = [
            OnlineEvent(f"{i:032x}", "u", now - int(b) * 1000, k, f"i{n}", f"c{n % 9}", None, 250)
            for i, (b, k, n) in enumerate(zip(backs, kinds, items, strict=True))
        ]
        started = time.perf_counter()
        compute_one(history, from_micros(now), feature_set)
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took), float(np.percentile(took, 99))


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_500_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--cutoffs", type=int, default=30)
    arguments = parser.parse_args()
    question = Question()
    with tempfile.TemporaryDirectory() as folder:
        lake = write_days(Path(folder), arguments.events, arguments.users, arguments.cutoffs + 15)
        cutoffs = [START + timedelta(days=15 + n) for n in range(arguments.cutoffs)]
        bare(lake)
        bare_wall, bare_cpu = timed(lambda: bare(lake))
        found = []
        pairs_wall, _ = timed(lambda: found.append(daily_pairs(lake, question, cutoffs)))
        pairs = found[0]
        wall, cpu = timed(lambda: compute(lake, pairs, default_feature_set(question)))
    p50, p99 = online()
    figures = {
        "events": arguments.events, "pairs": len(pairs), "pairs_seconds": pairs_wall, "seconds": wall,
        "cpu_seconds": cpu, "bare_seconds": bare_wall, "bare_cpu_seconds": bare_cpu,
        "ratio": wall / bare_wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "online_p50_ms": p50, "online_p99_ms": p99,
    }  # fmt: skip
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
