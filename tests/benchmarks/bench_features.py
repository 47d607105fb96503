"""How long all features at many daily cut-offs take, compared with a bare group-by and with pandas.

    python -m tests.benchmarks.bench_features [--users 55500] [--days 45] [--cutoffs 15] [--engine duckdb]
        [--pandas-events 1200000] [--tenfold]

The log is `retail simulate`'s: 55,500 users over 45 days are 5 million events. Prints one JSON line: wall
seconds, CPU seconds of all cores and peak memory of the batch, the same of a DuckDB `group by user, event`
on the same Parquet (median of three), and milliseconds (wall, CPU) of the online interpreter for users with
500 events. CPU seconds and memory are this process's: with `--engine spark` the JVM's are not included.

`vs_pandas` is the wall time of `pandas_features` over that of the batch, for the same log, cut-offs and
features (`pandas_covered`: those with a pandas form, today all), each once, the batch first; their tables
must be equal. Pandas is given the context features, the batch computes them. For a log above
`--pandas-events` (0: no pandas at all) pandas gets all events of a sample of the users; `pandas_seconds` are
as measured, and `vs_pandas` divides them by `pandas_share`, the share of the events in the sample. That also
multiplies the costs that do not depend on the number of users: use a large sample.

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
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_TYPES
from retail_core.times import from_micros
from tests.benchmarks.pandas_features import covered_features, pandas_features
from tests.benchmarks.simulated_lake import START, DayFiles, simulated_days
from tests.feature_logs import DAY

SHARES = (0.5, 0.1, 0.1, 0.06, 0.01, 0.02, 0.02, 0.02, 0.002, 0.1, 0.068)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_group_by(lake: DayFiles) -> None:
    """The least work of any engine: read, and group once."""
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


def time_pandas(
    lake: DayFiles, sample: DayFiles, batch_rows: pd.DataFrame, feature_set: FeatureSet
) -> tuple[float, float]:
    """Seconds of pandas for the batch's rows of users in the sample; the features must be equal."""
    task, names = feature_set.task, list(feature_set.names)
    days = {local_day(t, task) for t in batch_rows["as_of"].dt.to_pydatetime()}
    context = context_by_day(lake, task, days)
    users = pd.concat([pd.read_parquet(file, columns=["user_id"]) for file in sample.files()])["user_id"]
    batch_rows = batch_rows[batch_rows["user_id"].isin(users.unique())]
    pairs = batch_rows[["user_id", "as_of"]]
    results: list[pd.DataFrame] = []
    seconds = timed(lambda: results.append(pandas_features(sample, pairs, feature_set, context)))
    pd.testing.assert_frame_equal(results[0], batch_rows[names], rtol=1e-9, atol=1e-9)
    return seconds


def compare_with_pandas(
    lake: DayFiles, batch_rows: pd.DataFrame, feature_set: FeatureSet, events: tuple[int, int]
) -> dict[str, float]:
    """Seconds of pandas; for (all, maximum) events on a sample of the users where there are too many."""
    total, maximum = events
    with tempfile.TemporaryDirectory() as folder:
        sample = lake if total <= maximum else sampled(lake, Path(folder) / "sample", maximum / total)
        with duckdb.connect() as connection:
            sample_events = connection.read_parquet(sample.files()).aggregate("count(*)").fetchall()[0][0]
        wall, cpu = time_pandas(lake, sample, batch_rows, feature_set)
    return {"pandas_share": sample_events / total, "pandas_seconds": wall, "pandas_cpu_seconds": cpu}


def online(events: int = 500, rounds: int = 1000) -> dict[str, float]:
    """Wall and CPU milliseconds for one user, events in random order."""
    rng = np.random.default_rng(3)
    as_of = 1_740_000_000_000_000
    feature_set = default_feature_set(PredictionTask())
    seconds = []
    for _ in range(rounds):
        backs = rng.integers(1, 28 * DAY // 1000, events)
        kinds = rng.choice(EVENT_TYPES, events, p=np.array(SHARES) / sum(SHARES)).tolist()
        items = rng.integers(0, 200, events)
        history = [
            OnlineEvent(f"{i:032x}", "u", as_of - int(b) * 1000, k, f"i{n}", f"c{n % 9}", None, 250)
            for i, (b, k, n) in enumerate(zip(backs, kinds, items, strict=True))
        ]
        seconds.append(
            timed(lambda history=history: compute_user_features(history, from_micros(as_of), feature_set))
        )
    wall, cpu = 1000 * np.array(seconds).T
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
    """Features of all eligible users, and the seconds of computing them."""
    pairs = daily_pairs(lake, feature_set.task, cutoffs)
    rows: list[pd.DataFrame] = []
    seconds = timed(lambda: rows.append(compute_features(lake, pairs, feature_set, engine=options)))
    return rows[0], seconds


def tenfold(
    arguments: argparse.Namespace, feature_set: FeatureSet, baseline: tuple[int, float, float]
) -> dict[str, float]:
    """The batch on ten times the users, and its ratios to the baseline (events, seconds, CPU seconds)."""
    with tempfile.TemporaryDirectory() as folder:
        lake, events = simulated_days(Path(folder), 10 * arguments.users, arguments.days)
        cutoffs = midnights(arguments.days, arguments.cutoffs)
        _, seconds = batch(lake, cutoffs, feature_set, EngineOptions(arguments.engine))
    names = ("events", "seconds", "cpu_seconds")
    measured = dict(zip((f"tenfold_{name}" for name in names), (events, *seconds), strict=True))
    ratios = zip((f"tenfold_{name}_ratio" for name in names), measured.values(), baseline, strict=True)
    return measured | {name: large / small for name, large, small in ratios}


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
        runs = [timed(lambda: bare_group_by(lake)) for _ in range(3)]
        bare_wall, bare_cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
        cutoffs = midnights(arguments.days, arguments.cutoffs)
        rows, (wall, cpu) = batch(lake, cutoffs, feature_set, EngineOptions(arguments.engine))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        comparison: dict[str, float] = {}
        if maximum := arguments.pandas_events:
            covered, batch_seconds = covered_features(feature_set), (wall, cpu)
            if covered != feature_set:
                rows, batch_seconds = batch(lake, cutoffs, covered, EngineOptions(arguments.engine))
            comparison = compare_with_pandas(lake, rows, covered, (events, maximum))
            share = comparison["pandas_share"]
            comparison["pandas_covered"] = len(covered.names)
            comparison["vs_pandas"] = comparison["pandas_seconds"] / share / batch_seconds[0]
            comparison["cpu_vs_pandas"] = comparison["pandas_cpu_seconds"] / share / batch_seconds[1]
    figures = {
        "events": events, "pairs": len(rows), "features": len(feature_set.columns), "seconds": wall,
        "cpu_seconds": cpu, "bare_seconds": bare_wall, "bare_cpu_seconds": bare_cpu,
        "ratio": wall / bare_wall, "cpu_ratio": cpu / bare_cpu,
        "peak_mb": peak, **online(), **comparison,
    }  # fmt: skip
    del rows
    if arguments.tenfold:
        figures |= tenfold(arguments, feature_set, (events, wall, cpu))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
