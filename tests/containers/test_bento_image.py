"""The container job: the bento becomes an image, and the image answers with everything taken from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import pytest

from retail_core.model.runtime import load_champion
from retail_core.model.training import TrainOptions
from retail_core.processes import free_port
from tests.serving import AS_OF, KEY, Shop, environment, trained_shop

# Three minutes of it are apt, pip and a training.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("containers.sh")
BASE = "localhost/base/python:3.11"
IMAGE = "localhost/retail-purchase-24h:test"
NO_ENGINE = 69
READY_SECONDS = 120
MEMORY = "1g"


@dataclass(frozen=True)
class Podman:
    """An engine whose files are all in one folder."""

    work: Path

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["podman", *arguments], env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def environment(self, conf: str = "run.conf") -> dict[str, str]:
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.work / "storage.conf"),
            "CONTAINERS_CONF": str(self.work / conf),
        }


def recipe(step: str, work: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(RECIPE), step, str(work)], capture_output=True, text=True, check=False)


def not_run(step: str, said: str) -> None:
    """A job that could not run is never a job that passed."""
    print(f"\nCONTAINER JOB NOT RUN: {step}: {said.strip()[-400:]}", file=sys.stderr)
    pytest.skip(f"not run: {step}: {said.strip()[-400:]}")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, mongod_uri: str) -> Shop:
    boosted = TrainOptions(policies=("daily",), model="lightgbm")
    return trained_shop(tmp_path_factory.getbasetemp() / "shop", mongod_uri, boosted)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Podman]:
    work = tmp_path_factory.mktemp("podman")
    setup = recipe("setup", work)
    if setup.returncode == NO_ENGINE:
        not_run("no container engine", setup.stderr)
    assert setup.returncode == 0, setup.stderr
    try:
        with ThreadPoolExecutor(1) as beside:
            making = beside.submit(recipe, "base", work)
            request.getfixturevalue("shop")
            base = making.result()
        assert base.returncode == 0, base.stderr
        probe = recipe("probe", work)
        if probe.returncode != 0:
            not_run("containers do not run on this machine", probe.stderr)
        yield Podman(work)
    finally:
        recipe("clean", work)


@pytest.fixture(scope="module")
def image(podman: Podman, shop: Shop) -> str:
    """The image of the bento of the production model."""
    own = environment(shop.settings) | {
        "BENTOML_HOME": str(shop.settings.home_dir / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTO_BASE_IMAGE": BASE,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    own.pop("DOCKER_BUILDKIT", None)
    _program(own, "bentos.import_model", "--json")
    begun = time.perf_counter()
    tag = _program(own, "bentoml", "build", "-o", "tag", ".").strip().removeprefix("__tag__:")
    conf = podman.environment("build.conf")
    engine = {name: conf[name] for name in ("CONTAINERS_STORAGE_CONF", "CONTAINERS_CONF")}
    containerize = ("containerize", tag, "--backend", "podman", "-t", IMAGE, "--opt", "network=host")
    _program(own | engine, "bentoml", *containerize)
    size = int(podman.run("image", "inspect", IMAGE, "--format", "{{.Size}}"))
    print(f"\nimage built in {time.perf_counter() - begun:.0f} s: {size / 1e6:.0f} MB")
    return IMAGE


@pytest.fixture(scope="module")
def api(podman: Podman, image: str) -> Iterator[httpx.Client]:
    """The image, run with everything taken from it that it does not need. There is no MongoDB."""
    port = free_port()
    hardened = (
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop=ALL", "--security-opt", "no-new-privileges"),
        *("--memory", MEMORY, "--cpus", "2", "--pids-limit", "256"),
    )
    settings = {
        "RETAIL_HOME": "/tmp/retail",
        "BENTOML_HOME": "/tmp/bentoml",
        "RETAIL_API_HOST": "0.0.0.0",
        "RETAIL_API_PORT": "8080",
        "RETAIL_API_KEYS": KEY,
    }
    given = [word for pair in settings.items() for word in ("-e", "=".join(pair))]
    begun = time.perf_counter()
    name = podman.run("run", "-d", *hardened, *given, "-p", f"127.0.0.1:{port}:8080", image)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        while not _ready(client):
            running = podman.run("inspect", name, "--format", "{{.State.Running}}")
            late = time.perf_counter() - begun > READY_SECONDS
            assert running == "true", _logs(podman, name)
            assert not late, _logs(podman, name)
            time.sleep(0.25)
        print(f"\nready {time.perf_counter() - begun:.1f} s after `podman run`")
        client.headers["X-API-Key"] = KEY
        yield client
    podman.run("rm", "-f", name)


def test_the_image_answers_as_the_model_does_without_a_database(api: httpx.Client, shop: Shop) -> None:
    champion = load_champion(shop.settings)
    values = dict.fromkeys(champion.spec.feature_set.columns, 1.0)
    expected = champion.predict(_frame(values), "daily")["probability"].iloc[0]
    asked = {"user_id": "u", "as_of": AS_OF.isoformat(), "features": values}
    answer = api.post("/predict", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["probability"] == pytest.approx(expected, abs=1e-9)
    assert answer.json()["model_version"] == champion.spec.version


def test_the_image_asks_for_a_key_and_says_when_it_lacks_a_database(api: httpx.Client) -> None:
    assert api.get("/model", headers={"X-API-Key": "wrong"}).status_code == 401
    by_user = api.post("/predict", json={"user_id": "u", "as_of": AS_OF.isoformat()})
    assert by_user.status_code == 503
    assert by_user.headers["content-type"].startswith("application/problem+json")


def test_nothing_of_this_machine_is_in_the_image(podman: Podman, image: str) -> None:
    told = json.loads(podman.run("image", "inspect", image))[0]
    assert told["Config"]["User"] == "bentoml"
    assert not any("INDEX" in variable or "PROXY" in variable for variable in told["Config"]["Env"])
    found = podman.run(
        *("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c"),
        # The mounts of the build leave empty files behind.
        "id -u; find /etc/pip.conf /etc/uv -type f -size +0; ls -d src/tests src/.venv src/app 2>&-; :",
    )
    assert found == "1034"


def _program(own: dict[str, str], module: str, *arguments: str) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def _logs(podman: Podman, name: str) -> str:
    done = subprocess.run(
        ["podman", "logs", "--tail", "60", name],
        env=podman.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def _frame(values: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame([values]).astype("float64")
