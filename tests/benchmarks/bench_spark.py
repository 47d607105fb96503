"""All features on Spark, equal to DuckDB's, also where a worker is killed half-way.

    python -m tests.benchmarks.bench_spark [--users 55500] [--days 45] [--cutoffs 15] [--no-cluster]

The log and the cut-offs are those of `bench_features`. First Spark runs in this process's JVM (`local[2]`),
then on a standalone cluster on loopback: a master and two workers of one core each, started here through the
classes of the pyspark package. After half the time that `local[2]` took, the first worker and its executor
are killed with SIGKILL; Spark gives their work to the other one. Prints one JSON line of seconds; a feature
that differs by more than 1e-9 from DuckDB's is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil
import pyspark

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.subprocesses import free_port
from tests.benchmarks.bench_features import midnights, timed
from tests.benchmarks.simulated_lake import DayFiles, simulated_days

HOME = Path(pyspark.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
MEMORY = "2g"


@contextmanager
def cluster(folder: Path, memory: str = MEMORY) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A master and two workers of one core and so much memory; their URL and the workers."""
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    started = [launch(folder, "master", "master.Master", "--host", "127.0.0.1", "--port", str(port))]
    try:
        wait_for(folder / "master.log", "I have been elected leader")
        for number in (1, 2):
            options = ("--host", "127.0.0.1", "--cores", "1", "--memory", memory, "--webui-port", "0", url)
            started.append(launch(folder, f"worker{number}", "worker.Worker", *options))
        for number in (1, 2):
            wait_for(folder / f"worker{number}.log", "Successfully registered")
        yield url, started[1:]
    finally:
        for process in started:
            end(process)


def launch(folder: Path, name: str, kind: str, *options: str) -> subprocess.Popen[bytes]:
    """One of Spark's daemons, its log beside it."""
    command = [str(HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", *options]
    environment = {**os.environ, "SPARK_HOME": str(HOME), "PYTHONPATH": str(ROOT)}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_for(log: Path, line: str, seconds: float = 120) -> None:
    """Until the line is in the log."""
    until = time.monotonic() + seconds
    while line not in log.read_text(errors="replace"):
        if time.monotonic() > until:
            raise TimeoutError(f"{log.name} does not say {line!r}")
        time.sleep(0.2)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a daemon with its executors and their Pythons, as a machine that fails would."""
    if process.poll() is None:
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    process.wait()


def on_spark(
    lake: DayFiles, expected: pd.DataFrame, feature_set: FeatureSet, options: EngineOptions
) -> float:
    """Seconds of the features on Spark; they must be DuckDB's."""
    from pyspark.sql import SparkSession

    pairs, frames = expected[["user_id", "as_of"]], list[pd.DataFrame]()
    try:
        seconds, _ = timed(lambda: frames.append(compute_features(lake, pairs, feature_set, engine=options)))
    finally:
        if active := SparkSession.getActiveSession():
            active.stop()
    pd.testing.assert_frame_equal(frames[0], expected, rtol=0, atol=1e-9)
    return seconds


def main() -> None:
    """Generate, compute on each, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=55_500)
    parser.add_argument("--days", type=int, default=45)
    parser.add_argument("--cutoffs", type=int, default=15)
    parser.add_argument("--no-cluster", action="store_true")
    arguments = parser.parse_args()
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    feature_set = default_feature_set(PredictionTask())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "lake").mkdir()
        lake, events = simulated_days(folder / "lake", arguments.users, arguments.days)
        pairs = daily_pairs(lake, feature_set.task, midnights(arguments.days, arguments.cutoffs))
        expected = compute_features(lake, pairs, feature_set)
        figures: dict[str, float] = {"events": events, "pairs": len(pairs)}
        local = on_spark(lake, expected, feature_set, EngineOptions("spark"))
        figures["local_seconds"] = local
        if not arguments.no_cluster:
            with cluster(folder) as (url, workers):
                killer = threading.Timer(local / 2, end, [workers[0]])
                killer.start()
                options = EngineOptions("spark", spark_master=url)
                figures["cluster_seconds"] = on_spark(lake, expected, feature_set, options)
                figures["killed_after"] = local / 2
                killer.cancel()
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
