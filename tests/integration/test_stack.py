"""The real stack: up, healthy, found by every part, down, and nothing left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.settings import Settings
from retail_core.stack import commands, doctor, down, processes, status, up
from retail_core.stack.state import StackFiles
from retail_core.store.mongo.connection import Store
from retail_core.store.mongod.embedded import mongod_status
from retail_core.subprocesses import free_port, port_is_free
from tests.serving import Service

pytestmark = pytest.mark.integration


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Settings]:
    """A home with nothing in it, its own embedded MongoDB, and free ports."""
    mlflow, prefect, api, app = (free_port() for _ in range(4))
    settings = Settings(
        home=tmp_path / "home", mlflow_port=mlflow, prefect_port=prefect, api_port=api, app_port=app
    )
    yield settings
    down(settings)


def test_the_whole_stack_comes_up_healthy_and_goes_down_without_a_trace(own: Settings) -> None:
    said: list[str] = []
    begun = time.perf_counter()
    report = up(own, echo=said.append, detach=True)
    print(f"stack up after {time.perf_counter() - begun:.1f} s")

    assert report["ready"]
    assert status(own)["ready"]
    state = StackFiles(own.home_dir).read()
    assert state is not None
    services = status(own)["services"]
    assert isinstance(services, dict)
    assert {name for name, one in services.items() if one["healthy"]} == {
        "mongodb",
        "mlflow",
        "prefect",
        "pool",
        "deployments",
        "worker",
        "app",
    }
    assert "retail train" in services["api"]["note"]
    assert any("no model yet" in line for line in said)
    assert _deployments(own) == {"ingest", "train", "score", "outcomes", "retrain"}
    assert all(_loopback_only(process) for process in processes.family(state.id))
    findings = doctor(own)
    not_ok = {check["name"]: check["state"] for check in findings if check["state"] != "ok"}
    assert not_ok == {"stack": "warn", "champion": "warn"}, findings

    ended = down(own)
    assert ended["was_running"]
    assert ended["mongodb"]
    assert processes.family(state.id) == []
    assert mongod_status(own) is None
    ports = (own.mlflow_port, own.prefect_port, own.api_port, own.app_port)
    assert all(port_is_free("127.0.0.1", port) for port in ports)
    assert status(own)["services"] == {}


def test_a_busy_port_of_the_real_stack_ends_up_before_anything_starts(own: Settings) -> None:
    held = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(own.prefect_port)]
    with subprocess.Popen(held, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holder:
        while port_is_free("127.0.0.1", own.prefect_port):
            time.sleep(0.05)
        with pytest.raises(commands.DependencyError, match=f"process {holder.pid} .*http.server") as error:
            up(own, echo=print)
        assert "RETAIL_PREFECT_PORT" in error.value.remedy
        findings = {check["name"]: check for check in doctor(own)}
        assert findings["ports"]["state"] == "fail"
        assert f"{own.prefect_port} for prefect" in findings["ports"]["what"]
        holder.kill()
    assert mongod_status(own) is None


@pytest.mark.xdist_group("tests/integration/test_contract.py")
def test_doctor_distinguishes_its_own_api_from_another_server_on_the_port(
    registered_service: Service, tmp_path: Path
) -> None:
    port = registered_service.settings.api_port
    ports = {name: free_port() for name in ("mlflow_port", "prefect_port", "app_port")}
    serving = registered_service.settings.model_copy(update=ports)
    findings = {check["name"]: check for check in doctor(serving)}
    assert findings["ports"]["state"] == "ok", findings["ports"]
    assert f"`retail serve` runs at {port}" in findings["ports"]["what"]
    (tmp_path / "readyz").touch()
    (tmp_path / "openapi.json").write_text('{"paths": {"/predict": {}}}')
    port = free_port()
    stranger = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with subprocess.Popen(
        stranger, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as holder:
        while port_is_free("127.0.0.1", port):
            time.sleep(0.05)
        findings = {check["name"]: check for check in doctor(serving.model_copy(update={"api_port": port}))}
        holder.kill()
    assert findings["ports"]["state"] == "fail"
    assert f"{port} for api is in use by process {holder.pid}" in findings["ports"]["what"]


def test_doctor_tells_of_refused_rows_that_wait(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,event_time,event_type\nu,soon,search\nu,2025-01-01,search\n")
    ingest(store, [log], sources.get_preset("canonical"), at=datetime(2025, 1, 2, tzinfo=UTC))
    findings = {check["name"]: check for check in doctor(store.settings)}
    assert (findings["quarantine"]["state"], findings["quarantine"]["what"]) == (
        "warn",
        "1 refused rows wait",
    )


def test_doctor_reports_what_cannot_be_reached_and_never_raises(tmp_path: Path) -> None:
    broken = Settings(
        home=tmp_path / "home",
        mongodb_uri="mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200",
        mlflow_tracking_uri="http://127.0.0.1:1",
        engine="spark",
    )
    findings = {check["name"]: check for check in doctor(broken)}
    assert findings["mongodb"]["state"] == "fail"
    assert findings["mlflow"]["state"] == "fail"
    assert findings["champion"]["state"] == "fail"
    assert all(check["remedy"] for check in findings.values() if check["state"] != "ok")


def test_doctor_says_that_the_home_cannot_be_written(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    findings = {check["name"]: check for check in doctor(Settings(home=taken / "home"))}
    assert findings["disk"]["state"] == "fail"
    assert str(taken) in findings["disk"]["what"]
    assert "RETAIL_HOME" in findings["disk"]["remedy"]


def _deployments(settings: Settings) -> set[str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.prefect_port}/api/deployments/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {str(one["name"]) for one in json.load(answer)}


def _loopback_only(process: psutil.Process) -> bool:
    listening = [one for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    return all(one.laddr.ip in {"127.0.0.1", "::1"} for one in listening)
