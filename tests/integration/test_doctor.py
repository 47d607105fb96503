"""`doctor` with real services, a real MongoDB and dependencies that are away."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retail_core import sources
from retail_core.cli.app import app
from retail_core.ingest import ingest
from retail_core.settings import Settings
from retail_core.stack import doctor
from retail_core.stack.services import variables
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo.connection import Store
from retail_core.subprocesses import free_port, port_is_free
from tests.lake_windows import event, put
from tests.serving import Service

pytestmark = pytest.mark.integration


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


def test_doctor_names_a_damaged_file_of_the_lake_and_its_rebuild_repairs_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, 1, [event(1, 1), event(2, 1, day=1)])
    sync(store)
    path = Path(Lake(store.settings.lake_url).files()[0])
    path.unlink()
    finding = next(check for check in doctor(store.settings) if check["name"] == "lake")
    assert (finding["state"], finding["what"]) == ("fail", f"{path} is missing")
    assert "retail lake rebuild" in finding["remedy"]
    for name, value in variables(store.settings).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    rebuilt = CliRunner().invoke(app, ["lake", "rebuild", "--json"])
    assert rebuilt.exit_code == 0, rebuilt.output
    assert (json.loads(rebuilt.stdout)["rows"], json.loads(rebuilt.stdout)["days"]) == (2, 2)
    finding = next(check for check in doctor(store.settings) if check["name"] == "lake")
    assert (finding["state"], finding["what"].partition(" at ")[0]) == ("ok", "2 events in 2 days")


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
    file = tmp_path / "taken"
    file.write_text("a file")
    findings = {check["name"]: check for check in doctor(Settings(home=file / "home"))}
    assert findings["disk"]["state"] == "fail"
    assert str(file) in findings["disk"]["what"]
    assert "RETAIL_HOME" in findings["disk"]["remedy"]


def test_doctor_warns_of_a_home_that_others_can_enter(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    for mode, state in ((0o755, "warn"), (0o700, "ok")):
        home.mkdir(exist_ok=True)
        home.chmod(mode)
        check = {check["name"]: check for check in doctor(Settings(home=home))}["home"]
        assert check["state"] == state
        assert (f"chmod 700 '{home}'" in check["remedy"]) == (state == "warn")
