"""How long `retail models rollback` takes, as a person runs it: the whole command, imports included.

    python -m tests.benchmarks.bench_rollback [--repeats 5]

A small shop is simulated, ingested and trained on twice in a home of its own; then the command is run again
and again, and each time it is checked that production has moved. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def retail(home: Path, *arguments: str) -> dict[str, Any]:
    """What the command prints with `--json`."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("RETAIL_", "MLFLOW_"))
    }
    small = {"RETAIL_SEARCH_ROWS": "1000", "RETAIL_FIT_ROWS": "2000"}
    command = [sys.executable, "-c", "from retail_core.cli import main; main()", *arguments, "--json"]
    done = subprocess.run(
        command,
        env={**inherited, **small, "RETAIL_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def production(home: Path) -> str:
    """The version in production."""
    return str(retail(home, "models", "list")["production"])


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        log = Path(folder) / "log.csv"
        retail(home, "simulate", "--users", "600", "--days", "34", "--seed", "3", "--out", str(log))
        retail(home, "ingest", str(log), "--source", "canonical")
        try:
            versions = [retail(home, "train", "--model", "logistic")["version"] for _ in range(2)]
            seconds = []
            for _ in range(repeats):
                if production(home) != versions[1]:
                    retail(home, "models", "promote", versions[1])
                started = time.perf_counter()
                retail(home, "models", "rollback")
                seconds.append(time.perf_counter() - started)
                if production(home) != versions[0]:
                    raise SystemExit("the rollback did not take effect")
        finally:
            retail(home, "down")
    print(
        json.dumps(
            {
                "seconds": [round(duration, 2) for duration in seconds],
                "median": round(statistics.median(seconds), 2),
                "slowest": round(max(seconds), 2),
                "load": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
