"""Predictions by user id under an open-loop load of up to five times the capacity.

    python -m tests.benchmarks.bench_overload [--seconds 8] [--rounds 3] [--factors 0.8 1 2 5]

The capacity is the highest rate of answers that a closed loop of 16 connections gets. The load generator and
MongoDB run on the same machine, and the generator's own share of a core is reported. Figures are medians of
the rounds, in which the factors take turns. On a busy machine compare the processor time of the service per
answer, which includes that of the refusals. The last line is one JSON object.
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
    """One row for each factor."""
    bodies = [{"user_id": user, "as_of": AS_OF.isoformat()} for user in fill_histories(settings)]
    requests = [http_request("/predict", json.dumps(body).encode()) for body in bodies]
    with running_service(settings, folder / "api.log") as api:
        url, port = f"{api.base_url}".rstrip("/"), api.base_url.port
        assert port
        rates = [
            wrk(f"{url}/predict", bodies, seconds=4, connections=CONNECTIONS, folder=folder).rate
            for _ in range(options.rounds)
        ]
        capacity = max(rates)
        api.get("/livez").raise_for_status()
        process = worker(settings.home_dir.as_posix(), port)
        rounds: dict[float, list[dict[str, float]]] = {factor: [] for factor in options.factors}
        for _ in range(options.rounds):
            for factor in options.factors:
                before = process.cpu_times()
                result = open_loop(port, requests, capacity * factor, options.seconds)
                after = process.cpu_times()
                figures = row(factor, result, process.memory_info().rss / 1e6)
                seconds = after.user + after.system - before.user - before.system
                figures["cpu_ms_per_answer"] = 1000 * seconds / max(1, result.statuses[200])
                rounds[factor].append(figures)
                print({name: round(value, 2) for name, value in figures.items()}, flush=True)
    rows = [
        {name: median(figures[name] for figures in entries) for name in entries[0]}
        for entries in rounds.values()
    ]
    peak, highest = max(entry["goodput"] for entry in rows), rows[-1]
    least = min(entry["cpu_ms_per_answer"] for entry in rows)
    return {
        "capacity": capacity,
        "peak_goodput": peak,
        "goodput_at_highest_over_peak": highest["goodput"] / max(peak, 1e-9),
        "least_cpu_over_that_at_highest": least / highest["cpu_ms_per_answer"],
        "rows": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.8, 1.0, 2.0, 5.0])
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
