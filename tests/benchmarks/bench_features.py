"""How long all features at many daily cut-offs take, beside a bare group-by over the same Parquet and pandas.

    python -m tests.benchmarks.bench_features [--users 55500] [--days 45] [--cutoffs 15] [--engine duckdb]
        [--pandas-events 1200000] [--tenfold]

The log is `retail simulate`'s: 55,500 users over 45 days are 5 million events. Prints one JSON line:
seconds on the wall and of all cores and peak memory of the batch, the same of a DuckDB `group by user,
event` (median of three), and milliseconds (wall, core) of the online interpreter for users with 500 events.
Seconds of cores and memory are this process's: with `--engine spark` the JVM's are not among them.

`vs_pandas` is the wall time of `pandas_features` over that of the batch, same log and cut-offs, each once,
the batch first; their tables must be equal. Pandas is handed the context features, the batch computes them.
Of a log above `--pandas-events` (0: no pandas at all) pandas sees all events of a sample of the users;
`pandas_seconds` are as measured, and `vs_pandas` divides them by `pandas_share`, the share of the events in
the sample. That multiplies also what pandas pays however few the users are: keep the sample large.

`--tenfold` measures the batch once more on the log of ten times the users: `--users 11100 --tenfold` is 1
million events against 10 million.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.online.event_columns import OnlineEvent
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_TYPES
from retail_core.times import from_micros
from tests.benchmarks.pandas_features import pandas_features
from tests.benchmarks.simulated_lake import START, DayFiles, simulated_days
from tests.feature_logs import DAY

SHARES = (0.5, 0.1, 0.1, 0.06, 0.01, 0.02, 0.02, 0.02, 0.002, 0.1, 0.068)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare(lake: DayFiles) -> None:
    """What any engine has to do at least: read, and group once."""
    with duckdb.connect() as connection:
        connection.read_parquet(lake.files()).aggregate("user_id, event_type, count(*)").fetchall()


def sampled(lake: DayFiles, folder: Path, share: float) -> DayFiles:
    """A lake of every event of about that share of the users."""
    folder.mkdir()
    with duckdb.connect() as connection:
        for file in lake.files():
            rows = f"select * from '{file}' where hash(user_id) % 1000000 < {share * 1_000_000}"
            connection.execute(f"copy ({rows}) to '{folder / Path(file).name}' (compression zstd)")
    return DayFiles(folder)


def in_pandas(
    lake: DayFiles, sample: DayFiles, ours: pd.DataFrame, feature_set: FeatureSet
) -> tuple[float, float]:
    """Seconds of pandas for those of our rows whose users are in the sample; its features must be ours."""
    question, names = feature_set.task, list(feature_set.names)
    shop = context_by_day(lake, question, {local_day(t, question) for t in ours["as_of"].dt.to_pydatetime()})
    users = pd.concat([pd.read_parquet(file, columns=["user_id"]) for file in sample.files()])["user_id"]
    ours = ours[ours["user_id"].isin(users.unique())]
    found: list[pd.DataFrame] = []
    took = timed(lambda: found.append(pandas_features(sample, ours[["user_id", "as_of"]], feature_set, shop)))
    pd.testing.assert_frame_equal(found[0], ours[names], rtol=1e-9, atol=1e-9)
    return took


def against_pandas(
    lake: DayFiles, ours: pd.DataFrame, feature_set: FeatureSet, events: tuple[int, int]
) -> dict[str, float]:
    """Seconds of pandas; of (all, at most so many) events a sample of the users where there are too many."""
    total, most = events
    with tempfile.TemporaryDirectory() as folder:
        sample = lake if total <= most else sampled(lake, Path(folder) / "sample", most / total)
        with duckdb.connect() as connection:
            taken = connection.read_parquet(sample.files()).aggregate("count(*)").fetchall()[0][0]
        wall, cpu = in_pandas(lake, sample, ours, feature_set)
    return {"pandas_share": taken / total, "pandas_seconds": wall, "pandas_cpu_seconds": cpu}


def online(events: int = 500, rounds: int = 1000) -> dict[str, float]:
    """Milliseconds on the wall and of the core for one user, events in random order."""
    rng = np.random.default_rng(3)
    now = 1_740_000_000_000_000
    feature_set = default_feature_set(PredictionTask())
    took = []
    for _ in range(rounds):
        backs = rng.integers(1, 28 * DAY // 1000, events)
        kinds = rng.choice(EVENT_TYPES, events, p=np.array(SHARES) / sum(SHARES)).tolist()
        items = rng.integers(0, 200, events)
        history = [
            OnlineEvent(f"{i:032x}", "u", now - int(b) * 1000, k, f"i{n}", f"c{n % 9}", None, 250)
            for i, (b, k, n) in enumerate(zip(backs, kinds, items, strict=True))
        ]
        took.append(
            timed(lambda history=history: compute_user_features(history, from_micros(now), feature_set))
        )
    wall, cpu = 1000 * np.array(took).T
    return {
        f"online_p{share}{kind}_ms": float(np.percentile(times, share))
        for kind, times in (("", wall), ("_cpu", cpu))
        for share in (50, 99)
    }


def midnights(days: int, number: int) -> list[datetime]:
    """The last midnights of the log."""
    last = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=days)
    return [last - timedelta(days=n) for n in range(number)]


def batch(
    lake: DayFiles, cutoffs: list[datetime], feature_set: FeatureSet, options: EngineOptions
) -> tuple[pd.DataFrame, tuple[float, float]]:
    """Features of everybody who is eligible, and the seconds they took."""
    pairs = daily_pairs(lake, feature_set.task, cutoffs)
    rows: list[pd.DataFrame] = []
    took = timed(lambda: rows.append(compute_features(lake, pairs, feature_set, engine=options)))
    return rows[0], took


def tenfold(
    arguments: argparse.Namespace, feature_set: FeatureSet, once: tuple[int, float, float]
) -> dict[str, float]:
    """The batch on ten times the users, and how many times the (events, seconds, core seconds) of once."""
    with tempfile.TemporaryDirectory() as folder:
        lake, events = simulated_days(Path(folder), 10 * arguments.users, arguments.days)
        cutoffs = midnights(arguments.days, arguments.cutoffs)
        _, took = batch(lake, cutoffs, feature_set, EngineOptions(arguments.engine))
    names = ("events", "seconds", "cpu_seconds")
    found = dict(zip((f"tenfold_{name}" for name in names), (events, *took), strict=True))
    times = zip((f"tenfold_{name}_ratio" for name in names), found.values(), once, strict=True)
    return found | {name: more / less for name, more, less in times}


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=55_500)
    parser.add_argument("--days", type=int, default=45)
    parser.add_argument("--cutoffs", type=int, default=15)
    parser.add_argument("--pandas-events", type=int, default=1_200_000)
    parser.add_argument("--engine", choices=["duckdb", "spark"], default="duckdb")
    parser.add_argument("--tenfold", action="store_true")
    arguments = parser.parse_args()
    feature_set = default_feature_set(PredictionTask())
    with tempfile.TemporaryDirectory() as folder:
        lake, events = simulated_days(Path(folder), arguments.users, arguments.days)
        runs = [timed(lambda: bare(lake)) for _ in range(3)]
        bare_wall, bare_cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
        cutoffs = midnights(arguments.days, arguments.cutoffs)
        rows, (wall, cpu) = batch(lake, cutoffs, feature_set, EngineOptions(arguments.engine))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        beside: dict[str, float] = {}
        if most := arguments.pandas_events:
            beside = against_pandas(lake, rows, feature_set, (events, most))
            beside["vs_pandas"] = beside["pandas_seconds"] / beside["pandas_share"] / wall
            beside["cpu_vs_pandas"] = beside["pandas_cpu_seconds"] / beside["pandas_share"] / cpu
    figures = {
        "events": events, "pairs": len(rows), "features": len(feature_set.columns), "seconds": wall,
        "cpu_seconds": cpu, "bare_seconds": bare_wall, "bare_cpu_seconds": bare_cpu,
        "ratio": wall / bare_wall, "cpu_ratio": cpu / bare_cpu,
        "peak_mb": peak, **online(), **beside,
    }  # fmt: skip
    del rows
    if arguments.tenfold:
        figures |= tenfold(arguments, feature_set, (events, wall, cpu))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
