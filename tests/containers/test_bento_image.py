"""The container job: the bento becomes an image, and the image answers with everything taken from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pandas as pd
import pytest

from bentos.batch import BatchRequest, score_file
from retail_core.scoring.uploaded_files import read_upload
from retail_core.sources import get_preset
from retail_core.subprocesses import free_port
from tests.champion import champion_of
from tests.containers.engine import BASE, BUILD_BASE, ROOT, Podman
from tests.home_copies import drop_database, new_database_name
from tests.serving import AS_OF, KEY, Shop, ended_job, environment, send_file

# Three minutes of it are apt, pip and a training.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(1500)]

IMAGE = "localhost/retail-purchase-24h:test"
LIMIT_BYTES = 700_000_000
READY_SECONDS = 120
BATCH_SECONDS = 180
MEMORY = "1g"


@pytest.fixture(scope="module")
def image(podman: Podman, shop: Shop) -> str:
    """The image of the bento of the production model."""
    variables = environment(shop.settings) | {
        "BENTOML_HOME": str(shop.settings.home_dir / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    variables.pop("DOCKER_BUILDKIT", None)
    _program(variables, "bentos.import_model", "--json")
    begun = time.perf_counter()
    tag = _program(variables, "bentoml", "build", "-o", "tag", ".").strip().removeprefix("__tag__:")
    conf = podman.environment("build.conf")
    engine = {name: conf[name] for name in ("CONTAINERS_STORAGE_CONF", "CONTAINERS_CONF")}
    options = ("network=host", f"build-arg=PYTHON_IMAGE={BASE}", f"build-arg=BUILD_IMAGE={BUILD_BASE}")
    build_options = [word for option in options for word in ("--opt", option)]
    # BentoML copies the bento below TMPDIR and reads its template only below the current directory.
    folder = Path(tempfile.gettempdir())
    _program(
        variables | engine,
        "bentoml",
        "containerize",
        tag,
        "--backend",
        "podman",
        "-t",
        IMAGE,
        *build_options,
        cwd=folder,
    )
    print(f"\nimage built in {time.perf_counter() - begun:.0f} s: {_size(podman) / 1e6:.0f} MB")
    return IMAGE


@pytest.fixture(scope="module")
def api(podman: Podman, image: str) -> Iterator[httpx.Client]:
    """The image without a database."""
    port = free_port()
    published = ("-p", f"127.0.0.1:{port}:8080")
    with running_image(podman, image, port, published, {"RETAIL_API_HOST": "0.0.0.0"}) as client:
        yield client


@pytest.fixture(scope="module")
def api_with_database(podman: Podman, image: str, shop: Shop) -> Iterator[httpx.Client]:
    """The image beside a MongoDB, which keeps uploaded files, with an empty database."""
    port, uri = free_port(), shop.settings.mongodb_uri
    assert uri is not None
    settings = shop.settings.model_copy(update={"mongodb_database": new_database_name()})
    database = {
        "RETAIL_API_PORT": str(port),
        "RETAIL_MONGODB_URI": uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
    }
    with running_image(podman, image, port, ("--network", "host"), database) as client:
        yield client
    drop_database(settings)


@contextmanager
def running_image(
    podman: Podman, image: str, port: int, options: Sequence[str], variables: Mapping[str, str]
) -> Iterator[httpx.Client]:
    """The image, run with everything taken from it that it does not need, once it is ready."""
    hardened = (
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop=ALL", "--security-opt", "no-new-privileges"),
        *("--memory", MEMORY, "--cpus", "2", "--pids-limit", "256"),
    )
    settings = {
        "RETAIL_HOME": "/tmp/retail",
        "BENTOML_HOME": "/tmp/bentoml",
        "RETAIL_API_PORT": "8080",
        "RETAIL_API_KEYS": KEY,
        **variables,
    }
    variable_options = [word for pair in settings.items() for word in ("-e", "=".join(pair))]
    begun = time.perf_counter()
    name = podman.run("run", "-d", *hardened, *variable_options, *options, image)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        while not _ready(client):
            running = podman.run("inspect", name, "--format", "{{.State.Running}}")
            late = time.perf_counter() - begun > READY_SECONDS
            assert running == "true", podman.logs(name)
            assert not late, podman.logs(name)
            time.sleep(0.25)
        print(f"\nready {time.perf_counter() - begun:.1f} s after `podman run`")
        client.headers["X-API-Key"] = KEY
        yield client
    podman.run("rm", "-f", name)


def test_the_image_answers_as_the_model_does_without_a_database(api: httpx.Client, shop: Shop) -> None:
    champion = champion_of(shop.settings)
    values = dict.fromkeys(champion.spec.feature_set.columns, 1.0)
    expected = champion.predict(_frame(values), "daily")["probability"].iloc[0]
    item = {"user_id": "u", "as_of": AS_OF.isoformat(), "features": values}
    answer = api.post("/predict", json=item)
    assert answer.status_code == 200, answer.text
    assert answer.json()["probability"] == pytest.approx(expected, abs=1e-9)
    assert answer.json()["model_version"] == champion.spec.version


def test_the_image_asks_for_a_key_and_says_when_it_lacks_a_database(api: httpx.Client) -> None:
    assert api.get("/model", headers={"X-API-Key": "wrong"}).status_code == 401
    by_user = api.post("/predict", json={"user_id": "u", "as_of": AS_OF.isoformat()})
    assert by_user.status_code == 503
    assert by_user.headers["content-type"].startswith("application/problem+json")
    assert api.post("/score_batch", files={"file": b"user_id\nu1\n"}).status_code == 503


def test_the_image_scores_a_file_of_events(
    api_with_database: httpx.Client, shop: Shop, tmp_path: Path
) -> None:
    scored = _score(api_with_database, shop.log.name, shop.log.read_bytes())
    # As the database has no context of the shop, it is computed from the file.
    champion, out = champion_of(shop.settings), tmp_path / "here.csv"
    upload = read_upload(shop.log, get_preset("canonical"), champion.spec.feature_set)
    score_file(champion, upload, out, BatchRequest(AS_OF, AS_OF))
    both = scored.merge(pd.read_csv(out, dtype={"user_id": "str"}), on="user_id", suffixes=("", "_here"))
    assert len(both) == len(scored) > 500
    assert (both["probability"] - both["probability_here"]).abs().max() <= 1e-9


def test_the_image_scores_a_file_of_features(api_with_database: httpx.Client, shop: Shop) -> None:
    columns = champion_of(shop.settings).spec.feature_set.columns
    rows = pd.DataFrame(1.0, index=range(600), columns=list(columns))
    content = rows.assign(user_id=[f"u{row}" for row in rows.index]).to_csv(index=False).encode()
    assert len(_score(api_with_database, "rows.csv", content)) == 600


def test_the_image_is_small(podman: Podman, image: str) -> None:
    assert _size(podman) < LIMIT_BYTES


def test_nothing_of_this_machine_is_in_the_image(podman: Podman, image: str) -> None:
    image_config = json.loads(podman.run("image", "inspect", image))[0]
    assert image_config["Config"]["User"] == "bentoml"
    assert not any("INDEX" in variable or "PROXY" in variable for variable in image_config["Config"]["Env"])
    user_id = podman.run(
        *("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c"),
        # The mounts of the build leave empty files behind.
        "id -u; find /etc/pip.conf /etc/uv -type f -size +0; command -v pip uv;"
        " ls -d src/tests src/.venv src/app 2>&-; :",
    )
    assert user_id == "1034"


def _score(api: httpx.Client, name: str, content: bytes) -> pd.DataFrame:
    """As a client does it: send, ask until the job has ended, get the result."""
    form = {"as_of": AS_OF.isoformat()}
    path = send_file(api, name, content, **form)
    assert ended_job(api, path, BATCH_SECONDS)["state"] == "completed"
    answer = api.get(f"{path}/result")
    assert answer.status_code == 200, answer.text
    return pd.read_csv(BytesIO(answer.content), dtype={"user_id": "str"})


def _size(podman: Podman) -> int:
    return int(podman.run("image", "inspect", IMAGE, "--format", "{{.Size}}"))


def _program(variables: dict[str, str], module: str, *arguments: str, cwd: Path = ROOT) -> str:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.HTTPError:
        return False


def _frame(values: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame([values]).astype("float64")
