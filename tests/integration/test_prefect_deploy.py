"""`prefect.yaml` on a real server with a real worker: matured outcomes start the retraining check."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from retail_core.alerts.raising import newest_alerts
from retail_core.stack.work_pool import cancel_missed_runs
from retail_core.store.mongo.connection import open_store
from retail_core.subprocesses import stop
from tests.process_environment import without_coverage

if TYPE_CHECKING:
    from tests.integration.conftest import FlowShop

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    *("ingest", "score", "outcomes", "retrain", "monitor"),
    *("train", "recalibrate", "rollback", "backfill"),
}


def prefect(shop: FlowShop, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *args],
        cwd=ROOT,
        env=without_coverage(shop.environment),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def deployments(flow_shop: FlowShop) -> dict[str, Any]:
    prefect(flow_shop, "work-pool", "create", "retail", "--type", "process", "--overwrite")
    prefect(flow_shop, "deploy", "--all")
    return {deployment["name"]: deployment for deployment in flow_shop.post("deployments/filter", {})}


@pytest.fixture
def worker(flow_shop: FlowShop, deployments: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    environment = flow_shop.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "retail"]
    with (flow_shop.settings.home / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd="/", env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            stop(process)


def finished(shop: FlowShop, deployment: str, seconds: int) -> dict[str, Any]:
    """The newest finished run of a deployment."""
    finished_runs = {
        "deployments": {"name": {"any_": [deployment]}},
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}},
        "sort": "START_TIME_DESC",
    }
    for _ in range(seconds * 2):
        if runs := shop.post("flow_runs/filter", finished_runs):
            newest: dict[str, Any] = runs[0]
            return newest
        time.sleep(0.5)
    pytest.fail((shop.settings.home / "worker.log").read_text())


def crons_of(deployment: dict[str, Any]) -> list[tuple[str, str]]:
    schedules = [entry["schedule"] for entry in deployment["schedules"]]
    return [(schedule["cron"], schedule["timezone"]) for schedule in schedules]


def test_deployments_have_their_schedules_and_limits(deployments: dict[str, Any]) -> None:
    assert set(deployments) == NAMES
    crons = {name: crons_of(deployment) for name, deployment in deployments.items()}
    assert crons == {
        "ingest": [("*/10 * * * *", "UTC")],
        "monitor": [("0 12 * * *", "UTC")],
        "train": [],
        "recalibrate": [],
        "rollback": [],
        "backfill": [],
        "score": [("0 5 * * *", "UTC")],
        "outcomes": [("30 5 * * *", "UTC")],
        "retrain": [("0 6 * * *", "UTC")],
    }
    for deployment in deployments.values():
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert deployment["global_concurrency_limit"]["limit"] == 1
        (step,) = deployment["pull_steps"]
        assert step["prefect.deployments.steps.set_working_directory"]["directory"] == str(ROOT)


def test_the_file_contains_no_absolute_path() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    assert str(ROOT) not in text
    assert {deployment["name"] for deployment in yaml.safe_load(text)["deployments"]} == NAMES


@pytest.mark.usefixtures("deployments")
def test_automations_are_created_once(flow_shop: FlowShop) -> None:
    reports = flow_shop.run_in_one_process(("automations",), ("automations", "--lost-after", "120"))
    automations = [
        automation
        for automation in flow_shop.post("automations/filter", {})
        if automation["name"].startswith("retail: ")
    ]
    assert sorted(automation["name"] for automation in automations) == reports[0]["automations"]
    late = next(automation for automation in automations if automation["name"] == "retail: late runs")
    assert (late["trigger"]["posture"], late["trigger"]["within"]) == ("Proactive", 120)


def test_of_missed_runs_the_newest_stays(flow_shop: FlowShop, deployments: dict[str, Any]) -> None:
    now = datetime.now(UTC)
    score = deployments["score"]["id"]
    missed = {"start_time": (now - timedelta(days=4)).isoformat(), "end_time": now.isoformat()}
    flow_shop.post(f"deployments/{score}/schedule", missed)
    due = {
        "deployments": {"id": {"any_": [score]}},
        "flow_runs": {"expected_start_time": {"before_": now.isoformat()}},
        "sort": "EXPECTED_START_TIME_DESC",
    }
    assert len(flow_shop.post("flow_runs/filter", due)) >= 3
    with httpx.Client(base_url=flow_shop.api, timeout=60) as client:
        assert cancel_missed_runs(client, now) >= 2
        assert cancel_missed_runs(client, now) == 0
    newest, *others = flow_shop.post("flow_runs/filter", due)
    assert newest["state_type"] == "SCHEDULED"
    assert {run["state_type"] for run in others} == {"CANCELLED"}
    flow_shop.post(f"flow_runs/{newest['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


@pytest.mark.usefixtures("worker")
def test_a_worker_runs_outcomes_and_then_retrain(flow_shop: FlowShop, deployments: dict[str, Any]) -> None:
    as_of = flow_shop.later.isoformat().replace("+00:00", "Z")
    flow_shop.post(
        f"deployments/{deployments['outcomes']['id']}/create_flow_run", {"parameters": {"as_of": as_of}}
    )
    outcomes = finished(flow_shop, "outcomes", 150)
    assert outcomes["state"]["type"] == "COMPLETED", outcomes["state"]
    users = flow_shop.reports["score"]["users"]
    assert outcomes["state"]["message"] == f"{users} matured, {users} new"
    assert outcomes["name"] == f"outcomes {flow_shop.later:%Y-%m-%d}"
    retrain = finished(flow_shop, "retrain", 150)
    assert (retrain["state"]["type"], retrain["state"]["name"]) == ("COMPLETED", "Skipped")
    assert retrain["parameters"]["as_of"] == as_of
    assert f"{users} predictions newly matured" in retrain["parameters"]["requested_by"]


@pytest.mark.usefixtures("worker")
def test_a_deployed_run_that_fails_raises_an_alert(flow_shop: FlowShop, deployments: dict[str, Any]) -> None:
    wrong = {"version": "99", "reason": "a test"}
    flow_shop.post(f"deployments/{deployments['rollback']['id']}/create_flow_run", {"parameters": wrong})
    failed = finished(flow_shop, "rollback", 150)
    assert (failed["state"]["type"], "not version 99" in failed["state"]["message"]) == ("FAILED", True)
    with open_store(flow_shop.settings) as store:
        (alert,) = [alert for alert in newest_alerts(store, 9) if alert["key"] == "rollback"]
    assert alert["kind"] == "run_failed"
    assert failed["name"] in alert["text"]
