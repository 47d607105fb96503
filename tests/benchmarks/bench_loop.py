"""The whole loop on the real stack, with its worker, MLflow and MongoDB killed one at a time.

    python -m tests.benchmarks.bench_loop [--users 500]

`retail up` runs MLflow, Prefect, a worker, the API and the app in a home of its own. A first file arrives in
the watched folder, is ingested and trained on, and the API starts. While a client asks the API ten times a
second, two more files arrive, each makes a trigger fire, and the training is interrupted: the first by
killing the worker with the run it executes, the second by killing MLflow. The next run recovers, the one
after that finds nothing to do; the new version is promoted and the API answers with it. Last, MongoDB is
killed during a scoring. Alerts go to a local HTTP server. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import SecretStr

from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.stack.services import variables
from retail_core.stack.state import StackFiles
from retail_core.store.mongo.connection import Document, open_store
from retail_core.store.mongod.embedded import mongod_status
from retail_core.subprocesses import free_port
from tests.alert_receiver import AlertReceiver, alert_receiver

START = date(2025, 1, 1)
DAYS = (20, 27, 34)
"""Days of the log after the first, the second and the third file."""

LOST_AFTER_SECONDS = 90
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Client:
    """Asks the API for one prediction after another; every answer but 200 is a failure."""

    url: str
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def ask(self, client: httpx.Client) -> None:
        """One prediction from the events of the request, which needs no database."""
        event = {"event_time": "2025-01-20T10:00:00Z", "event_type": "view_item", "item_id": "i1"}
        body = {"user_id": "new", "as_of": "2025-01-20T12:00:00Z", "events": [event]}
        started = time.perf_counter()
        try:
            answer = client.post(f"{self.url}/predict", json=body)
        except httpx.HTTPError as error:
            self.failures.append(type(error).__name__)
            return
        self.slowest_seconds = max(self.slowest_seconds, time.perf_counter() - started)
        if answer.status_code == httpx.codes.OK:
            self.answers[answer.json()["model_version"]] += 1
        else:
            self.failures.append(str(answer.status_code))

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask ten times a second until the block ends."""
        stop = threading.Event()

        def run() -> None:
            with httpx.Client(timeout=30, trust_env=False) as client:
                while not stop.wait(0.1):
                    self.ask(client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@dataclass
class Loop:
    """The stack of one home, seen from outside."""

    settings: Settings
    environment: dict[str, str]
    log: Path

    @property
    def prefect(self) -> str:
        """Address of Prefect's API."""
        return f"http://127.0.0.1:{self.settings.prefect_port}/api"

    def retail(self, *arguments: str) -> str:
        """Standard output of a command of `retail`."""
        return self.python("-c", "from retail_core.cli import main; main()", *arguments)

    def python(self, *arguments: str) -> str:
        """Standard output of a Python command."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        with self.log.open("a") as log:
            log.write(f"{arguments}\n{done.stdout}\n{done.stderr}\n")
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return done.stdout

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """JSON of a POST to Prefect, repeated while its database is busy (503)."""

        def answered() -> httpx.Response | None:
            answer = httpx.post(f"{self.prefect}/{path}", json=body, timeout=60)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer: httpx.Response = wait_for(answered, 120)
        return answer.raise_for_status().json()

    def start(self, deployment: str, **parameters: object) -> str:
        """Id of a new run."""
        (found,) = self.post("deployments/filter", {"deployments": {"name": {"any_": [deployment]}}})
        run = self.post(f"deployments/{found['id']}/create_flow_run", {"parameters": parameters})
        return str(run["id"])

    def state(self, run_id: str) -> dict[str, Any]:
        """State of a run."""
        run = httpx.get(f"{self.prefect}/flow_runs/{run_id}", timeout=60).raise_for_status().json()
        return {name: run["state"][name] for name in ("type", "name", "message")} | {"run": run["name"]}

    def wait(self, run_id: str, seconds: float = 1200) -> dict[str, Any]:
        """The final state of a run."""
        return wait_for(lambda: (s := self.state(run_id))["type"] in ENDED and s, seconds)

    def run(self, deployment: str, **parameters: object) -> dict[str, Any]:
        """The final state of a new run; raises where it did not succeed."""
        state = self.wait(self.start(deployment, **parameters))
        if state["type"] != "COMPLETED":
            raise RuntimeError(f"{deployment}: {state}")
        return state

    def documents(self, collection: str) -> list[Document]:
        """All documents of a collection, oldest first."""
        with open_store(self.settings) as store:
            return list(store.database[collection].find().sort("_id", 1))

    def service(self, name: str) -> psutil.Process:
        """Main process of a service of the stack."""
        state = StackFiles(self.settings.home_dir).read()
        pid = state.services[name].pid if state else None
        if pid is None:
            raise RuntimeError(f"{name} does not run")
        return psutil.Process(pid)


def wait_for(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of `condition`, which is asked twice a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except (httpx.HTTPError, RuntimeError):
            pass
        time.sleep(0.5)
    raise TimeoutError(f"not within {seconds:g} s")


@contextmanager
def stack(folder: Path, receiver: AlertReceiver) -> Iterator[Loop]:
    """`retail up` in a home of its own, and `retail down` at the end."""
    mlflow, prefect, api, app = (free_port() for _ in range(4))
    settings = Settings(
        home=folder / "home",
        search_rows=1_000,
        fit_rows=2_000,
        poll_seconds=2.0,
        alert_urls=SecretStr(receiver.url("alerts")),
        mlflow_port=mlflow,
        prefect_port=prefect,
        api_port=api,
        app_port=app,
    )
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RETAIL_", "MLFLOW_", "PREFECT_", "BENTOML_"))
    }
    own = {name: value for name, value in variables(settings).items() if value is not None}
    frequencies = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_WORKER_QUERY_SECONDS": "2"}
    loop = Loop(settings, inherited | own | frequencies, folder / "commands.log")
    loop.retail("up", "--detach")
    try:
        loop.environment |= {
            "PREFECT_API_URL": loop.prefect,
            "PREFECT_HOME": str(settings.home_dir / "prefect"),
        }
        loop.python("-m", "flows.automations", "--lost-after", str(LOST_AFTER_SECONDS))
        del loop.environment["PREFECT_API_URL"]
        yield loop
    finally:
        loop.retail("down")


def write_files(folder: Path, users: int) -> list[Path]:
    """The log of a simulated shop in files, split by time at `DAYS`."""
    log = folder / "log.csv"
    simulate(SimulationConfig(users=users, days=DAYS[-1], seed=3, start=START), log)
    header, *rows = log.read_text().splitlines(keepends=True)
    column = header.strip().split(",").index("event_time")
    bounds = [(START + timedelta(days=day)).isoformat() for day in (0, *DAYS)]
    paths = [folder / f"until_{day}.csv" for day in DAYS]
    for path, first, last in zip(paths, bounds[:-1], bounds[1:], strict=True):
        path.write_text(header + "".join(row for row in rows if first <= row.split(",")[column] < last))
    return paths


def arrive(loop: Loop, file: Path) -> dict[str, Any]:
    """Put a file into the watched folder as if it had been complete for a while, and ingest it."""
    inbox = loop.settings.inbox_dir
    inbox.mkdir(parents=True, exist_ok=True)
    target = inbox / file.name
    shutil.copyfile(file, target)
    old = time.time() - 300
    os.utime(target, (old, old))
    return loop.run("ingest")


def at_midnight(days: int) -> str:
    """Midnight after the given number of days of the log."""
    return f"{(START + timedelta(days=days)).isoformat()}T00:00:00Z"


def running_attempts(loop: Loop) -> list[Document]:
    """Attempts that are recorded as running."""
    return [attempt for attempt in loop.documents("training_attempts") if attempt["state"] == "running"]


def kill_during_retraining(loop: Loop, service: str, as_of: str) -> dict[str, Any]:
    """Kill a service while a trigger's training runs, then run twice; the worker is killed with its run."""
    run = loop.start("retrain", as_of=as_of)
    wait_for(lambda: loop.state(run)["type"] == "RUNNING" and running_attempts(loop), 300)
    process = loop.service(service)
    for child in [*(process.children(recursive=True) if service == "worker" else ()), process]:
        child.kill()
    killed = time.perf_counter()
    state = loop.wait(run)
    report: dict[str, Any] = {
        "run": state["name"],
        "seconds_to_its_end": round(time.perf_counter() - killed, 1),
    }
    for name in ("next", "after_that"):
        started = time.perf_counter()
        report[name] = loop.run("retrain", as_of=as_of)["message"]
        report[f"{name}_seconds"] = round(time.perf_counter() - started, 1)
    return report


def kill_mongodb(loop: Loop, as_of: str) -> dict[str, Any]:
    """Kill MongoDB during a scoring, and score again."""
    run = loop.start("score", as_of=as_of)
    wait_for(lambda: loop.state(run)["type"] == "RUNNING", 300)
    status = mongod_status(loop.settings)
    if status is None:
        raise RuntimeError("MongoDB does not run")
    psutil.Process(int(status["pid"])).kill()
    state = loop.wait(run)
    return {"run": state["name"], "next": loop.run("score", as_of=as_of)["message"]}


def promote_newest(loop: Loop) -> dict[str, str]:
    """The newest version; put into production by hand where the gate did not."""
    newest = max(loop.documents("training_attempts"), key=lambda attempt: int(attempt.get("version") or 0))
    version = str(newest["version"])
    if loop.documents("promotions")[-1]["version"] == version:
        return {"version": version, "promoted": "by the gate"}
    loop.retail("models", "promote", version, "--reason", "the benchmark goes on with it")
    return {"version": version, "promoted": "by hand", "gate": str(newest["decision"])}


def trained_twice(loop: Loop) -> int:
    """Finished trainings whose data a finished training had before."""
    finished = [
        json.dumps([attempt["data"], str(attempt["as_of"])], default=str)
        for attempt in loop.documents("training_attempts")
        if attempt["state"] == "finished"
    ]
    return len(finished) - len(set(finished))


def measure(folder: Path, users: int) -> dict[str, Any]:
    """Run the loop; the report."""
    seconds: dict[str, float] = {}
    report: dict[str, Any] = {"users": users, "days": DAYS, "at": datetime.now(UTC).isoformat()}
    first, second, third = write_files(folder, users)

    def timed(name: str, step: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        value = step()
        seconds[name] = round(time.perf_counter() - started, 1)
        print(f"{name}: {seconds[name]} s, {value}", file=sys.stderr, flush=True)
        return value

    with alert_receiver() as receiver, stack(folder, receiver) as loop:
        client = Client(f"http://127.0.0.1:{loop.settings.api_port}")
        timed("ingest the first file", lambda: arrive(loop, first))
        timed("train", lambda: loop.run("train", as_of=at_midnight(DAYS[0]), model="logistic"))
        ready = f"{client.url}/readyz"
        timed("API ready", lambda: wait_for(lambda: httpx.get(ready).status_code == httpx.codes.OK, 600))
        with client.asking():
            for file, day, service in ((second, DAYS[1], "worker"), (third, DAYS[2], "mlflow")):
                timed(f"ingest {file.name}", lambda file=file: arrive(loop, file))
                kill = partial(kill_during_retraining, loop, service, at_midnight(day))
                report[f"killed {service}"] = timed(f"retrain, {service} killed", kill)
                promoted = timed("promote", lambda: promote_newest(loop))
                answers = partial(client.answers.__getitem__, promoted["version"])
                timed(f"API answers with version {promoted['version']}", partial(wait_for, answers, 300))
                report[f"version {promoted['version']}"] = promoted
            last = at_midnight(DAYS[2])
            report["killed mongodb"] = timed("score, MongoDB killed", lambda: kill_mongodb(loop, last))
        report |= {
            "answers": dict(client.answers),
            "failed_requests": dict(Counter(client.failures)),
            "slowest_request_seconds": round(client.slowest_seconds, 2),
            "alerts": receiver.titles("alerts"),
            "trained_twice_on_the_same_data": trained_twice(loop),
            "attempts": dict(Counter(attempt["state"] for attempt in loop.documents("training_attempts"))),
        }
    return report | {"seconds": seconds}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(options.folder or Path(temporary), options.users)))


if __name__ == "__main__":
    main()
