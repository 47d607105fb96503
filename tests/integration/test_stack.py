"""The real stack: up, healthy, found by every part, down, and nothing left."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from retail_core.settings import Settings
from retail_core.stack import commands, doctor, down, processes, status, up
from retail_core.stack.state import StackFiles
from retail_core.store.mongod.embedded import mongod_status
from retail_core.subprocesses import free_port, port_is_free

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def stack_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A home with nothing in it, its own embedded MongoDB, and free ports."""
    # Most of what it starts are servers of others; `test_supervisor` measures the coverage of ours.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    mlflow, prefect, api, app = (free_port() for _ in range(4))
    settings = Settings(
        home=tmp_path / "home", mlflow_port=mlflow, prefect_port=prefect, api_port=api, app_port=app
    )
    yield settings
    down(settings)


def test_the_whole_stack_comes_up_healthy_and_goes_down_without_a_trace(stack_settings: Settings) -> None:
    lines: list[str] = []
    begun = time.perf_counter()
    report = up(stack_settings, echo=lines.append, detach=True)
    print(f"stack up after {time.perf_counter() - begun:.1f} s")

    assert report["ready"]
    assert status(stack_settings)["ready"]
    state = StackFiles(stack_settings.home_dir).read()
    assert state is not None
    services = status(stack_settings)["services"]
    assert isinstance(services, dict)
    assert {name for name, service in services.items() if service["healthy"]} == {
        "mongodb",
        "mlflow",
        "prefect",
        "pool",
        "deployments",
        "automations",
        "worker",
        "app",
    }
    assert "retail train" in services["api"]["note"]
    assert any("no model yet" in line for line in lines)
    assert _deployments(stack_settings) == {
        *("ingest", "score", "outcomes", "retrain", "monitor"),
        *("train", "recalibrate", "rollback", "backfill"),
    }
    assert all(_loopback_only(process) for process in processes.family(state.id))
    findings = doctor(stack_settings)
    not_ok = {check["name"]: check["state"] for check in findings if check["state"] != "ok"}
    assert not_ok == {"stack": "warn", "champion": "warn"}, findings

    ended = down(stack_settings)
    assert ended["was_running"]
    assert ended["mongodb"]
    assert processes.family(state.id) == []
    assert mongod_status(stack_settings) is None
    ports = (
        stack_settings.mlflow_port,
        stack_settings.prefect_port,
        stack_settings.api_port,
        stack_settings.app_port,
    )
    assert all(port_is_free("127.0.0.1", port) for port in ports)
    assert status(stack_settings)["services"] == {}


def test_a_busy_port_of_the_real_stack_ends_up_before_anything_starts(stack_settings: Settings) -> None:
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(stack_settings.prefect_port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as holder:
        while port_is_free("127.0.0.1", stack_settings.prefect_port):
            time.sleep(0.05)
        with pytest.raises(commands.DependencyError, match=f"process {holder.pid} .*http.server") as error:
            up(stack_settings, echo=print)
        assert "RETAIL_PREFECT_PORT" in error.value.remedy
        findings = {check["name"]: check for check in doctor(stack_settings)}
        assert findings["ports"]["state"] == "fail"
        assert f"{stack_settings.prefect_port} for prefect" in findings["ports"]["what"]
        holder.kill()
    assert mongod_status(stack_settings) is None


def _deployments(settings: Settings) -> set[str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.prefect_port}/api/deployments/filter",
        data=b"{}",
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {str(deployment["name"]) for deployment in json.load(answer)}


def _loopback_only(process: psutil.Process) -> bool:
    listening = [
        connection
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    return all(connection.laddr.ip in {"127.0.0.1", "::1"} for connection in listening)
