"""Malformed requests: none may crash the service, hang, or give a status of 500 and above.

    python -m tests.benchmarks.bench_malformed [--requests 20000] [--real] [--state FILE]

They go to the service in this process, with --real to a service that is started for it. Run again with the
same --state it continues where it ended. The last line is one JSON object; the exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings

from retail_core.settings import Settings
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from tests.malformed_requests import (
    ANSWER_SECONDS,
    GOOD_ITEM,
    MalformedRequest,
    malformed_requests,
    problem_of,
    service_in_process,
)
from tests.serving import register_shop, running_service

BATCH = 500
MAX_EXAMPLES_SHOWN = 20

Send = Callable[[MalformedRequest], httpx.Response]


def run_batch(number: int, send: Send, good_answer: Any) -> tuple[Counter[str], list[str]]:
    """Send `BATCH` generated requests; how many gave each status, and descriptions of failures."""
    statuses: Counter[str] = Counter()
    failures: list[str] = []

    @seed(number)
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(request=malformed_requests())
    def ask(request: MalformedRequest) -> None:
        started = time.perf_counter()
        try:
            response = send(request)
            fault = problem_of(request, response, good_answer)
            statuses[str(response.status_code)] += 1
        except (TimeoutError, httpx.TimeoutException):
            fault = "hangs"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a result
            fault = f"crashes: {type(error).__name__}: {error}"
        if time.perf_counter() - started > ANSWER_SECONDS:
            fault = fault or "hangs"
        if fault:
            statuses["failed"] += 1
            failures.append(f"{request.method} {request.path} {request.body[:300]!r}: {fault}")

    ask()
    return statuses, failures


@contextmanager
def sender(shop: Settings, folder: Path, *, real: bool) -> Iterator[tuple[Send, Any]]:
    """How requests are sent, and the answer to `GOOD_ITEM`."""
    if not real:
        with service_in_process(shop) as service:
            yield service.send, service.good_answer
        return
    with running_service(shop, folder / "api.log") as api:

        def send(request: MalformedRequest) -> httpx.Response:
            headers = {"content-type": request.content_type} if request.content_type else {}
            return api.request(
                request.method, request.path, content=request.body, headers=headers, timeout=ANSWER_SECONDS
            )

        yield send, api.post("/predict", json=GOOD_ITEM).json()
        print(
            (folder / "api.log").read_text().count("Traceback"),
            "stack traces in the log of the service",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--real", action="store_true", help="over HTTP to a started service")
    parser.add_argument("--state", type=Path, help="file of the progress, to continue from")
    options = parser.parse_args()
    done: dict[str, Any] = {"batches": 0, "statuses": {}, "failures": []}
    if options.state and options.state.exists():
        done = json.loads(options.state.read_text())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        mongod = Settings(home=folder / "mongod")
        try:
            shop = Settings(home=folder / "shop", mongodb_uri=ensure_mongod(mongod), standby=False)
            register_shop(shop)
            with sender(shop, folder, real=options.real) as (send, good_answer):
                while done["batches"] * BATCH < options.requests:
                    statuses, failures = run_batch(done["batches"], send, good_answer)
                    done["batches"] += 1
                    done["statuses"] = dict(Counter(done["statuses"]) + statuses)
                    done["failures"] = [*done["failures"], *failures][:MAX_EXAMPLES_SHOWN]
                    if options.state:
                        options.state.write_text(json.dumps(done))
                    print(done["batches"] * BATCH, done["statuses"], flush=True)
        finally:
            stop_mongod(mongod)
    for failure in done["failures"]:
        print(failure)
    print(json.dumps({"requests": sum(done["statuses"].values()), **done["statuses"]}))
    return 1 if done["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
