"""Model swaps under load: no request fails, and a version that fails its self-test is never used."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from retail_core.registry.promotion import Author, promote
from retail_core.registry.versions import set_production
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from tests.home_copies import copy_home
from tests.serving import AS_OF, environment, register_variant, running_service

pytestmark = [pytest.mark.integration, pytest.mark.long]

SWAPS = 4
CLIENTS = 3
PAUSE_SECONDS = 0.01
"""Between the requests of a client; without it, clients take the time that loading a model needs."""
BACK_SECONDS = 120
"""Limit for the restart of a worker; `make bench-serving` measures how soon."""


@dataclass
class Responses:
    """What concurrent clients received: probabilities by version, and failures."""

    probabilities: dict[str, set[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    count: int = 0


@pytest.fixture(scope="module")
def settings(registered: Settings) -> Settings:
    return registered.model_copy(update={"poll_seconds": 0.2, "standby": True})


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("logs") / "api.log"
    with running_service(settings, log, is_measured=True) as client:
        yield client


def make_production(settings: Settings, version: str) -> None:
    with open_store(settings) as store:
        promote(store, version, Author("test"))


def put_in_production_by_hand(settings: Settings, version: str) -> None:
    """Bypass the test before promotion, as if the version broke after it."""
    with open_store(settings) as store:
        newest = store.promotions.find_one(sort=[("_id", -1)])
        assert newest is not None
        store.promotions.insert_one({**newest, "_id": newest["_id"] + 1, "version": version})
    set_production(settings, version)


def wait_for(api: httpx.Client, version: str, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.1)):
        if api.get("/model").json()["version"] == version:
            return
        time.sleep(0.1)
    pytest.fail(f"version {version} was never loaded")


@contextmanager
def concurrent_requests(api: httpx.Client) -> Iterator[Responses]:
    """Several clients that send the same request continuously."""
    responses, stop = Responses(), threading.Event()
    item = {"user_id": "u", "as_of": AS_OF.isoformat(), "features": {}}

    def send() -> None:
        with httpx.Client(base_url=api.base_url, trust_env=False, timeout=30) as http:
            while not stop.wait(PAUSE_SECONDS):
                try:
                    answer = http.post("/predict", json=[item, item])
                except httpx.HTTPError as error:
                    responses.failures.append(repr(error))
                    continue
                responses.count += 1
                if answer.status_code != 200:
                    responses.failures.append(answer.text)
                    continue
                first, second = answer.json()
                if first != second:
                    responses.failures.append("two versions in one answer")
                responses.probabilities.setdefault(first["model_version"], set()).add(first["probability"])

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield responses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_promotions_are_followed_under_load_and_no_request_fails(
    api: httpx.Client, settings: Settings
) -> None:
    variant = register_variant(settings, factor=0.5)
    with concurrent_requests(api) as responses:
        for number in range(SWAPS):
            version = (variant, "1")[number % 2]
            make_production(settings, version)
            wait_for(api, version)
    assert responses.failures == []
    assert responses.count > SWAPS
    assert set(responses.probabilities) == {"1", variant}
    assert [len(values) for values in responses.probabilities.values()] == [1, 1]
    assert responses.probabilities["1"] != responses.probabilities[variant]


def test_a_version_that_fails_its_self_test_is_never_used(api: httpx.Client, settings: Settings) -> None:
    bad = register_variant(settings, factor=0.5, honest=False)
    with concurrent_requests(api) as responses:
        put_in_production_by_hand(settings, bad)
        for _ in range(600):
            shown = api.get("/model").json()
            if shown["reload_refused"]:
                break
            time.sleep(0.1)
        refused = api.post("/model/reload")
    metrics = api.get("/metrics").text.splitlines()
    make_production(settings, "1")
    assert (refused.status_code, refused.json()["type"]) == (409, "/docs#reload-refused")
    assert "its own test rows" in refused.json()["detail"]
    assert (shown["version"], "its own test rows" in shown["reload_refused"]) == ("1", True)
    assert "retail_reload_refused 1.0" in metrics
    assert responses.failures == []
    assert set(responses.probabilities) == {"1"}
    assert api.post("/model/reload").json()["reload_refused"] is None


@pytest.mark.parametrize("standby", [True, False])
def test_a_killed_worker_is_replaced(registered_template: Settings, tmp_path: Path, *, standby: bool) -> None:
    item: dict[str, object] = {"user_id": "u", "features": {}}
    settings = copy_home(registered_template, tmp_path / "home").model_copy(update={"standby": standby})
    home, log = settings.home_dir.as_posix(), tmp_path / "api.log"
    with running_service(settings, log, ends_well=False) as api:
        wait_until_true(lambda: ("This process stands by" in log.read_text()) or not standby)
        before = {process.pid for process in workers(home)}
        assert len(before) == 1 + standby
        assert api.post("/predict", json=item).status_code == 200
        first = worker(home, api.base_url.port)
        assert first.pid in before
        first.kill()
        wait_until_true(lambda: _is_served(api, item))
        second = worker(home, api.base_url.port)
        assert second.pid != first.pid
        assert (second.pid in before) is standby


def wait_until_true(condition: Callable[[], bool]) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=BACK_SECONDS)
    while not condition():
        assert datetime.now(UTC) < deadline
        time.sleep(0.05)


def test_of_two_simultaneous_imports_one_imports(settings: Settings, tmp_path: Path) -> None:
    variables = environment(settings) | {"BENTOML_HOME": str(tmp_path / "bentoml")}
    command = [sys.executable, "-m", "bentos.import_model", "--json"]
    both = [subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    imports = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert sorted(report["imported"] for report in imports) == [False, True]
    assert len({report["tag"] for report in imports}) == 1


def _is_served(api: httpx.Client, item: dict[str, object]) -> bool:
    try:
        return api.post("/predict", json=item).status_code == 200
    except httpx.TransportError:
        return False


def workers(home: str) -> list[psutil.Process]:
    """The real-time processes of the service with this home."""
    processes = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):  # gone meanwhile
            named = "PurchaseService" in (process.info["cmdline"] or [])
            if named and process.environ().get("RETAIL_HOME") == home:
                processes.append(process)
    return processes


def worker(home: str, port: int | None) -> psutil.Process:
    """The process that serves on this port: it holds the established connection."""
    for process in workers(home):
        with suppress(psutil.Error):
            connections = process.net_connections("tcp")
            if any(entry.status == "ESTABLISHED" and entry.laddr.port == port for entry in connections):
                return process
    pytest.fail("no worker of the service has a connection")
