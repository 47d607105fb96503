"""Ingest, train, score and serve against services of the shop's own, each of which requires a password."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import httpx
import pytest
from pymongo import MongoClient

from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.subprocesses import free_port, is_reachable, start, stop, wait_until
from tests.command_line import retail
from tests.own_services import BUCKET, PASSWORD, PREFECT_AUTH, USER, own_services
from tests.process_environment import clean_environment, without_coverage

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
AS_OF = "2025-01-29T00:00:00Z"
KEY = "a-key"
FLOW_SECONDS = 300
SETTINGS = {
    "RETAIL_API_KEYS": KEY,
    "RETAIL_SEARCH_ROWS": "1000",
    "RETAIL_FIT_ROWS": "2000",
    "RETAIL_STANDBY": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


@dataclass(frozen=True)
class OwnInfrastructure:
    """A home that holds no data, the variables that lead to the services, and the shop's log."""

    home: Path
    variables: dict[str, str]
    log: Path

    @property
    def environment(self) -> dict[str, str]:
        settings = self.variables | {"RETAIL_HOME": str(self.home), "RETAIL_CONFIG": ""}
        return without_coverage(clean_environment()) | settings

    def retail(self, *arguments: str) -> str:
        done = retail(*arguments, home=self.home, **self.variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments: str, **changed: str) -> subprocess.Popen[str]:
        """A module of Python's in a process of its own."""
        command = [sys.executable, "-m", *arguments]
        output = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment | changed,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def own(
    mongod_uri: str, empty_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnInfrastructure]:
    folder = tmp_path_factory.mktemp("own")
    log = folder / "log.csv"
    simulate(SimulationConfig(users=500, days=28, seed=3, start=date(2025, 1, 1)), log, None)
    with own_services(folder, mongod_uri, empty_registry) as variables:
        yield OwnInfrastructure(folder / "home", variables | SETTINGS, log)


@contextmanager
def running(
    own: OwnInfrastructure, module: str, *arguments: str, ready: str = ""
) -> Iterator[Callable[[], None]]:
    """A service of ours, until its end; yields a function that waits until the URL `ready` answers."""
    log = own.home.parent / f"{module}-{arguments[0].strip('-')}.log"
    process = start(module, arguments, own.environment, log)
    try:
        yield lambda: wait_until(lambda: is_reachable(ready), process, log)
    finally:
        stop(process)


def run_deployment(own: OwnInfrastructure, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The state of a run of a deployment, which a worker has executed."""
    user, password = PREFECT_AUTH.split(":")
    with httpx.Client(base_url=own.variables["PREFECT_API_URL"], auth=(user, password), timeout=60) as api:
        deployment = api.get(f"/deployments/name/{name}/{name}").raise_for_status().json()
        started = api.post(
            f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters}
        )
        run = f"/flow_runs/{started.raise_for_status().json()['id']}"
        end = time.monotonic() + FLOW_SECONDS
        while True:
            state: dict[str, Any] = api.get(run).raise_for_status().json()["state"]
            if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
                return state
            assert time.monotonic() < end, state
            time.sleep(0.25)


def predict(api: httpx.Client, body: object) -> Any:
    answer = api.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored_predictions(own: OwnInfrastructure) -> dict[str, float]:
    """Probability by user of some users that the flow has scored."""
    with MongoClient[dict[str, Any]](own.variables["RETAIL_MONGODB_URI"]) as client:
        predictions = client[own.variables["RETAIL_MONGODB_DATABASE"]]["predictions"].find().sort("user_id")
        return {document["user_id"]: document["probability"] for document in predictions.limit(20)}


def objects(own: OwnInfrastructure, prefix: str) -> list[str]:
    client = boto3.client(
        "s3",
        endpoint_url=own.variables["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    return [
        entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    ]


def deploy(own: OwnInfrastructure) -> subprocess.Popen[str]:
    """Create the work pool; the process that deploys the flow `score` as prefect.yaml describes it."""
    pool = own.start("retail_core.stack.work_pool")
    assert "created" in pool.communicate(timeout=60)[0]
    return own.start("prefect", "--no-prompt", "deploy", "--name", "score")


def test_a_shop_with_its_own_services(own: OwnInfrastructure) -> None:
    own.retail("ingest", str(own.log))
    with deploy(own) as deploying:
        own.retail("train", "--model", "logistic", "--cutoffs", "daily", "--as-of", AS_OF)
        output, _ = deploying.communicate(timeout=120)
    assert deploying.returncode == 0, output
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # As in prefect.yaml and docker/Dockerfile.
    worker = running(own, "prefect", *["worker", "start", "--pool", "retail", "--type", "process"])
    api = running(own, "bentos.serve", "--port", str(port), ready=f"{url}/readyz")
    with worker, api as wait_until_ready:
        state = run_deployment(own, "score", {"as_of": AS_OF})
        assert state["type"] == "COMPLETED", state
        wait_until_ready()
        with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as client:
            event = {"user_id": "new", "event_time": "2025-01-28T23:00:00Z", "event_type": "view_item"}
            posted = client.post("/events", json=event | {"item_id": "i"})
            assert posted.status_code == 202, posted.text
            assert predict(client, {"user_id": "new", "as_of": AS_OF})["history"] == "stored"
            scored = stored_predictions(own)
            listed = predict(client, [{"user_id": user_id, "as_of": AS_OF} for user_id in scored])
    assert {answer["user_id"]: answer["probability"] for answer in listed} == pytest.approx(scored, rel=1e-6)
    assert not any(answer.get("warnings") for answer in listed)
    checks = {check["name"]: check for check in json.loads(own.retail("doctor", "--json"))["checks"]}
    assert {checks[name]["state"] for name in ("mlflow", "champion", "mongodb")} == {"ok"}, checks
    # Models and events are in the object store, nothing of the services is in the home.
    assert any(key.endswith("spec.json") for key in objects(own, "mlflow/"))
    assert objects(own, "lake/events/_delta_log/")
    assert not {"mongo", "lake", "mlflow"} & {path.name for path in own.home.iterdir()}
    logs = output + "".join(path.read_text() for path in own.home.parent.glob("*.log"))
    assert "score" in logs
    assert not any(spelling in logs for spelling in (PASSWORD, quote(PASSWORD, safe="")))


def test_refused_credentials_are_one_line_that_names_the_variable(own: OwnInfrastructure) -> None:
    wrong_uri = own.variables["RETAIL_MONGODB_URI"].replace(f"{USER}:", f"{USER}:s3cr3t")
    commands = {
        "MLFLOW_TRACKING_USERNAME": (["models", "list"], {"MLFLOW_TRACKING_PASSWORD": "s3cr3t"}),
        "RETAIL_MONGODB_URI": (["quarantine", "list"], {"RETAIL_MONGODB_URI": wrong_uri}),
    }
    for variable, (command, changed) in commands.items():
        done = retail(*command, home=own.home, **{**own.variables, **changed})
        assert (done.returncode, done.stdout) == (3, "")
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert variable in done.stderr
        assert "s3cr3t" not in done.stderr


def test_a_flow_names_refused_credentials_of_prefect(own: OwnInfrastructure) -> None:
    with own.start("flows.score", "--as-of", AS_OF, PREFECT_API_AUTH_STRING="admin:wrong") as flow:
        output, _ = flow.communicate(timeout=120)
    assert flow.returncode == 3, output
    assert "PREFECT_API_AUTH_STRING" in output.splitlines()[-1]
