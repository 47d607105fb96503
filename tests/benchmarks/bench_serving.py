"""How fast the service responds, beside plain servers of the same model; wrk as load.

    python -m tests.benchmarks.bench_serving [--seconds 5] [--rounds 5] [--swaps 100] [--batch-users 1000000]
        [--lists]

Each figure is the median of the rounds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import pandas as pd

from bentos.batch import BatchRequest, score_file
from retail_core.registry import versions as registry
from retail_core.registry.versions import load_version
from retail_core.scoring.uploaded_files import read_upload
from retail_core.settings import Settings
from retail_core.sources import get_preset
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.predictions import replace_predictions
from retail_core.store.mongod.embedded import ensure_mongod, stop_mongod
from retail_core.subprocesses import free_port, is_reachable, start, stop, wait_until
from tests.benchmarks.load import CONNECTIONS, Load, middle, wrk
from tests.integration.test_swap import concurrent_requests, make_production, wait_for, worker
from tests.serving import AS_OF, register_shop, register_variant, running_service

TREES = 100
EVENTS_PER_USER = 200
USERS = 1_000


@contextmanager
def server(command: list[str], ready: str, model: Path, log: Path, **more: str) -> Iterator[None]:
    """A plain server, until the block ends."""
    # `mlflow models serve` looks for uvicorn on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment_variables = {**os.environ, "MODEL": str(model), "PATH": path, **more}
    process = start(command[0], command[1:], environment_variables, log)
    try:
        wait_until(lambda: is_reachable(ready), process, log, 180)
        yield
    finally:
        stop(process)


def plain_rates(
    model: Path, body: dict[str, Any], folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Requests a second of FastAPI, a plain BentoML API and `mlflow models serve`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    uvicorn = [
        *("uvicorn", "--factory", "tests.benchmarks.servers.plain:fastapi_app", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]
    bento = ["bentoml", "serve", "tests.benchmarks.servers.plain:PlainBento", "--port", str(port)]
    mlflow = ["mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "--port", str(port)]
    frame = {
        "dataframe_split": {"columns": list(body["features"]), "data": [list(body["features"].values())]}
    }
    servers: list[tuple[str, list[str], str, str, dict[str, Any]]] = [
        ("fastapi", uvicorn, "/openapi.json", "/predict", body),
        ("bentoml_api", bento, "/readyz", "/predict", body),
        ("mlflow_serve", mlflow, "/ping", "/invocations", frame),
    ]
    rates = {}
    for name, command, ready, route, request_body in servers:
        home = {"BENTOML_HOME": str(folder / "plain"), "BENTOML_DO_NOT_TRACK": "True"}
        with server(command, url + ready, model, folder / f"{name}.log", **home):
            loads = [
                wrk(
                    url + route,
                    [request_body],
                    seconds=options.seconds,
                    connections=CONNECTIONS,
                    folder=folder,
                )
                for _ in range(options.rounds)
            ]
        rates[name] = middle(loads).rate
        print(name, middle(loads), flush=True)
    return rates


def fill_histories(settings: Settings) -> list[str]:
    """Users with `EVENTS_PER_USER` events in the look-back."""
    generator = np.random.default_rng(3)
    kinds = ["view_item", "view_item_list", "add_to_cart", "search", "purchase"]
    users = [f"heavy{number}" for number in range(USERS)]
    with open_store(settings) as store:
        for user in users:
            ages = generator.integers(1, 27 * 86_400, EVENTS_PER_USER)
            store.events.insert_many(
                {
                    "_id": f"{user}:{number}",
                    "user_id": user,
                    "event_time": AS_OF - timedelta(seconds=int(age)),
                    "event_type": kinds[number % 5],
                    "item_id": f"i{age % 50}",
                    "category": f"c{age % 7}",
                    "price_minor": int(age % 5000),
                    "quantity": 1,
                    "source": "canonical",
                    "window_id": 0,
                }
                for number, age in enumerate(ages)
            )
    return users


def by_user(
    url: str, users: list[str], settings: Settings, folder: Path, options: argparse.Namespace
) -> dict[str, float]:
    """By user id through MongoDB: alone, and lists of a thousand, with the memory that they take."""
    instant = AS_OF.isoformat()
    bodies = [{"user_id": user, "as_of": instant} for user in users]
    load = middle(
        [
            wrk(f"{url}/predict", bodies, seconds=options.seconds, connections=1, folder=folder)
            for _ in range(options.rounds)
        ]
    )
    with httpx.Client(timeout=120, trust_env=False) as http, open_store(settings) as store:
        http.post(f"{url}/predict", json=bodies[0]).raise_for_status()
        process = worker(settings.home_dir.as_posix(), int(url.rsplit(":", 1)[1]))
        resident = process.memory_info().rss

        def list_ms(change: Callable[[], object]) -> float:
            """Milliseconds of a list after a change, median of the rounds."""
            return 1000 * median(
                timed_after(change, lambda: http.post(f"{url}/predict", json=bodies).raise_for_status())
                for _ in range(options.rounds)
            )

        cold = list_ms(lambda: forget_histories(store))
        preloaded = list_ms(lambda: preload_histories(store, http, url, users))
        warm = list_ms(lambda: None)
        changed = list_ms(lambda: store.events.insert_many([event_now(user) for user in users[::10]]))
    return {
        "by_user_p50_ms": load.p50,
        "by_user_p99_ms": load.p99,
        "by_user_error_share": load.error_share,
        "list_1000_ms": warm,
        "list_1000_over_one": warm / load.p50,
        "list_1000_tenth_changed_ms": changed,
        "list_1000_all_read_ms": cold,
        "list_1000_preloaded_ms": preloaded,
        "list_1000_preloaded_over_one": preloaded / load.p50,
        "list_1000_added_mb": (process.memory_info().rss - resident) / 1e6,
    }


def event_now(user: str) -> dict[str, Any]:
    """An event that was just stored, a moment before the cut-off."""
    return {
        "_id": uuid.uuid4().hex,
        "user_id": user,
        "event_time": AS_OF - timedelta(seconds=1),
        "event_type": "view_item",
        "source": "canonical",
        "window_id": 0,
    }


def forget_histories(store: Store) -> None:
    """Delete an event: the service then removes all histories from its memory."""
    event = event_now("nobody")
    store.events.insert_one(event)
    store.events.delete_one({"_id": event["_id"]})


def preload_histories(store: Store, http: httpx.Client, url: str, users: list[str]) -> None:
    """Remove all histories, ask a list of unknown users, and wait until the histories of `users` are read."""
    ranks = np.arange(1, len(users) + 1)
    newest_list = {"user_id": users, "as_of": AS_OF, "model_version": "1", "policy": "daily", "rank": ranks}
    scores = {"probability": 1 / ranks, "raw_score": 1 / ranks, "will_purchase": False, "contact": False}
    frame = pd.DataFrame(newest_list | scores).astype({"as_of": "datetime64[ms, UTC]"})
    replace_predictions(store, frame, as_of=AS_OF, model_version="1")
    forget_histories(store)
    unknown = [{"user_id": f"unknown {number}", "as_of": AS_OF.isoformat()} for number in range(20)]
    http.post(f"{url}/predict", json=unknown).raise_for_status()
    while is_preloading(http, url):
        time.sleep(0.1)


def is_preloading(http: httpx.Client, url: str) -> bool:
    """The gauge of the service."""
    lines = http.get(f"{url}/metrics").text.splitlines()
    return any(float(line.split()[-1]) for line in lines if line.startswith("retail_histories_preloading"))


def timed_after(change: Callable[[], object], run: Callable[[], object]) -> float:
    """Seconds of `run` after a change."""
    change()
    return timed(run)


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def beside_batch(
    api: httpx.Client, body: dict[str, Any], file: Path, folder: Path, quiet: Load
) -> dict[str, float]:
    """Real-time latency while the batch runner scores a file."""
    with file.open("rb") as content:
        sent = api.post("/score_batch", files={"file": (file.name, content)}, timeout=300)
    path = sent.headers["Location"]
    loads, begun = [], time.perf_counter()
    while api.get(path).json()["state"] in {"queued", "running"}:
        loads.append(
            wrk(f"{api.base_url}/predict", [body], seconds=2, connections=CONNECTIONS, folder=folder)
        )
    seconds = time.perf_counter() - begun
    busy = middle(loads)
    return {
        "batch_upload_seconds": seconds,
        "p50_ms_beside_batch": busy.p50,
        "p99_ms_beside_batch": busy.p99,
        "p99_beside_batch_over_quiet": busy.p99 / quiet.p99,
    }


def feature_file(columns: list[str], users: int, folder: Path) -> Path:
    """Parquet of features, most of them missing, below the upload limit."""
    generator = np.random.default_rng(1)
    frame = pd.DataFrame(generator.exponential(3, (users, 8)).round(1), columns=columns[:8])
    frame.insert(0, "user_id", [f"u{number}" for number in range(users)])
    path = folder / "features.parquet"
    frame.to_parquet(path)
    return path


def batch_rate(settings: Settings, file: Path, users: int, folder: Path) -> float:
    """Users a second from a file of features to a scored CSV."""
    served = load_version(settings, "1")
    upload = read_upload(file, get_preset("canonical"), served.spec.feature_set)
    return users / timed(
        lambda: score_file(served, upload, folder / "scored.csv", BatchRequest(AS_OF, AS_OF))
    )


def swapped(api: httpx.Client, settings: Settings, swaps: int) -> dict[str, float]:
    """Model changes under load."""
    variant = register_variant(settings, factor=0.5)
    with concurrent_requests(api) as responses:
        for number in range(swaps):
            make_production(settings, (variant, "1")[number % 2])
            wait_for(api, (variant, "1")[number % 2])
    return {
        "swaps": swaps,
        "swap_answers": responses.count,
        "swap_failures": len(responses.failures),
        "swap_inconsistent": sum(len(values) != 1 for values in responses.probabilities.values()),
    }


def killed(api: httpx.Client, home: str, body: dict[str, Any], folder: Path) -> dict[str, float]:
    """The answering process killed while 16 connections ask; back is when a new connection is answered."""
    load = partial(wrk, f"{api.base_url}/predict", [body], seconds=8, connections=CONNECTIONS, folder=folder)
    with ThreadPoolExecutor(1) as pool:
        load_result = pool.submit(load)
        time.sleep(3)
        worker(home, api.base_url.port).kill()
        begun = time.perf_counter()
        while True:
            try:
                if api.post("/predict", json=body).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        back = time.perf_counter() - begun
        return {"seconds_back_after_kill": back, "error_share_with_kill": load_result.result().error_share}


def measure_lists(options: argparse.Namespace, folder: Path, settings: Settings) -> dict[str, float]:
    """The figures by user id alone."""
    users = fill_histories(settings)
    with running_service(settings, folder / "ours.log") as api:
        return by_user(str(api.base_url).rstrip("/"), users, settings, folder, options)


def measure(options: argparse.Namespace, folder: Path, settings: Settings) -> dict[str, Any]:
    """Everything."""
    model = registry.download(settings, "1")
    columns = list(load_version(settings, "1").spec.feature_set.columns)
    body = {"user_id": "u1", "features": {name: number % 7 * 1.5 for number, name in enumerate(columns)}}
    users = fill_histories(settings)
    rates = plain_rates(model, body, folder, options)
    file = feature_file(columns, options.batch_users, folder)
    with running_service(settings, folder / "ours.log") as api:
        url = str(api.base_url).rstrip("/")
        ours = middle(
            [
                wrk(f"{url}/predict", [body], seconds=options.seconds, connections=CONNECTIONS, folder=folder)
                for _ in range(options.rounds)
            ]
        )
        print("ours", ours, flush=True)
        result: dict[str, Any] = {
            **{f"vs_{name}": ours.rate / rate for name, rate in rates.items()},
            "p50_ms": ours.p50,
            "p99_ms": ours.p99,
            "p99_over_p50": ours.p99 / ours.p50,
            "error_share": ours.error_share,
            "requests_per_second": ours.rate,
            "features": len(columns),
            **by_user(url, users, settings, folder, options),
            **beside_batch(api, body, file, folder, ours),
            **swapped(api, settings, options.swaps),
            **killed(api, settings.home_dir.as_posix(), body, folder),
        }
    result["batch_users_per_second"] = batch_rate(settings, file, options.batch_users, folder)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--batch-users", type=int, default=1_000_000)
    parser.add_argument("--lists", action="store_true", help="measure only the requests by user id")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        mongod = Settings(home=folder / "mongod")
        try:
            uri = ensure_mongod(mongod)
            settings = Settings(home=folder / "shop", mongodb_uri=uri, poll_seconds=0.2)
            register_shop(settings, TREES)
            result = (measure_lists if options.lists else measure)(options, folder, settings)
        finally:
            stop_mongod(mongod)
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in result.items()}
    print(json.dumps(rounded))
    failed = any(result.get(name) for name in ("error_share", "swap_failures", "swap_inconsistent"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
