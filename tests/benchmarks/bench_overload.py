"""Predictions by user id under an open-loop load of up to five times the capacity.

    python -m tests.benchmarks.bench_overload [--seconds 8] [--rounds 3] [--factors 0.5 0.8 1 1.5 2 5]

The capacity is the highest rate of answers that a closed loop of 16 connections gets. The load generator and
MongoDB run on the same machine, and the generator's own share of a core is reported. The last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from retail_core.settings import Settings
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.benchmarks.bench_serving import fill_histories
from tests.benchmarks.load import CONNECTIONS, wrk
from tests.benchmarks.open_loop import OpenLoopResult, http_request, open_loop
from tests.integration.test_swap import worker
from tests.serving import AS_OF, register_shop, running_service

REFUSALS = (429, 503)


def row(factor: float, result: OpenLoopResult, memory_mb: float) -> dict[str, float]:
    """The figures of one rate."""
    refused = sum(result.statuses[status] for status in REFUSALS)
    return {
        "factor": factor,
        "offered_per_second": result.offered / result.seconds,
        "goodput": result.goodput,
        "refused_share": refused / result.offered,
        "other_share": 1 - (result.statuses[200] + refused + result.unsent) / result.offered,
        "unsent_share": result.unsent / result.offered,
        "p50_ms": result.percentile(0.5, 200),
        "p95_ms": result.percentile(0.95, 200),
        "refusal_p95_ms": result.percentile(0.95, *REFUSALS),
        "without_retry_after": result.without_retry_after,
        "generator_cpu": result.cpu_share,
        "memory_mb": memory_mb,
    }


def measure(options: argparse.Namespace, folder: Path, settings: Settings) -> dict[str, Any]:
    """One row for each factor, the median round by goodput."""
    bodies = [{"user_id": user, "as_of": AS_OF.isoformat()} for user in fill_histories(settings)]
    requests = [http_request("/predict", json.dumps(body).encode()) for body in bodies]
    rows = []
    with running_service(settings, folder / "api.log") as api:
        url, port = f"{api.base_url}".rstrip("/"), api.base_url.port
        assert port
        rates = [
            wrk(f"{url}/predict", bodies, seconds=4, connections=CONNECTIONS, folder=folder).rate
            for _ in range(options.rounds)
        ]
        capacity = max(rates)
        process = worker(settings.home_dir.as_posix(), port)
        for factor in options.factors:
            rounds = []
            for _ in range(options.rounds):
                result = open_loop(port, requests, capacity * factor, options.seconds)
                rounds.append(row(factor, result, process.memory_info().rss / 1e6))
                print({name: round(value, 2) for name, value in rounds[-1].items()}, flush=True)
            middle = median(entry["goodput"] for entry in rounds)
            rows.append(min(rounds, key=lambda entry: abs(entry["goodput"] - middle)))
    peak = max(entry["goodput"] for entry in rows)
    return {
        "capacity": capacity,
        "peak_goodput": peak,
        "goodput_at_highest_over_peak": rows[-1]["goodput"] / peak,
        "rows": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 0.8, 1.0, 1.5, 2.0, 5.0])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        mongod = Settings(home=folder / "mongod")
        try:
            settings = Settings(home=folder / "shop", mongodb_uri=ensure_mongod(mongod), standby=False)
            register_shop(settings)
            result = measure(options, folder, settings)
        finally:
            stop_mongod(mongod)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
