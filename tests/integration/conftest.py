"""A Prefect server of the tests' own, and a small shop that the flows have ingested, trained and scored."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.subprocesses import free_port
from tests.home_copies import copy_registry, drop_database, new_database_name
from tests.process_environment import clean_environment, without_coverage

ROOT = Path(__file__).resolve().parents[2]
SCORED = datetime(2025, 1, 29, tzinfo=UTC)
LATER = datetime(2025, 1, 31, tzinfo=UTC)
RUN_FLOWS = """
import json, runpy, sys
for module, *arguments in json.loads(sys.argv[1]):
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(f"flows.{module}", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""
"""`python -m flows.<module>` several times in one process, which imports Prefect and MLflow once."""


@dataclass
class FlowShop:
    """Where the flows of the tests run.

    Attributes:
        environment: leads to the Prefect server and the shop.
        settings: those of the shop.
        api: URL of Prefect's API.
        scored: cut-off of the stored predictions, UTC.
        later: a cut-off after their horizon, UTC.
        reports: what each module printed last.
        scored_next_day: what the flow `score` printed that was started without a cut-off.
        artifacts: by key, those of the first runs: tests may start others, in any order.
        messages: by flow, the state messages of the first runs.
    """

    environment: dict[str, str]
    settings: Settings
    api: str
    scored: datetime = SCORED
    later: datetime = LATER
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    scored_next_day: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def run(self, module: str, *args: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """`python -m flows.<module>` with some variables changed ("" takes one away)."""
        return self._python(["-m", f"flows.{module}", *args], changed)

    def run_python(self, program: str, *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """A program in the flows' environment with some variables changed."""
        return self._python(["-c", program, *arguments], changed)

    def run_in_one_process(self, *commands: tuple[str, ...]) -> list[dict[str, Any]]:
        """Run modules one after another, each with --json; the JSON object that each printed."""
        with_json = json.dumps([(*command, "--json") for command in commands])
        done = self._python(["-c", RUN_FLOWS, with_json], {})
        assert done.returncode == 0, done.stderr
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        self.reports |= {command[0]: report for command, report in zip(commands, reports, strict=True)}
        return reports

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The JSON response of the Prefect server."""
        response = httpx.post(f"{self.api}/{path}", json=body, timeout=60)
        response.raise_for_status()
        return response.json()

    def artifact(self, key: str) -> str:
        """The newest artifact."""
        (newest,) = self.post("artifacts/latest/filter", {"artifacts": {"key": {"any_": [key]}}})
        return str(newest["data"])

    def last_state(self, flow: str) -> dict[str, Any]:
        """The state of the newest run that has ended."""
        ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
        of_flow = {"flows": {"name": {"any_": [flow]}}, "flow_runs": ended}
        (newest,) = self.post("flow_runs/filter", of_flow | {"sort": "START_TIME_DESC", "limit": 1})
        return dict(newest["state"])

    def _python(self, arguments: list[str], changed: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in (self.environment | changed).items() if value}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="session")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment that leads to a real Prefect server on a free port, with a database of its own."""
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    environment = clean_environment() | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)]
    api = f"http://127.0.0.1:{port}/api"
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=without_coverage(environment), stdout=log, stderr=log)
        try:
            wait_for_server(server, api, home / "server.log")
            yield environment | {"PREFECT_API_URL": api}
        finally:
            server.terminate()
            server.wait(60)


def wait_for_server(server: subprocess.Popen[bytes], api: str, log: Path) -> None:
    for _ in range(360):
        try:
            if httpx.get(f"{api}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
        assert server.poll() is None, log.read_text()
    pytest.fail(f"the Prefect server did not answer: {log.read_text()}")


@pytest.fixture(scope="session")
def flow_shop(
    prefect_environment: dict[str, str],
    mongod_uri: str,
    empty_registry: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[FlowShop]:
    """Everything ingested, trained as of `SCORED` and scored there, each by its flow."""
    home = tmp_path_factory.mktemp("flow-shop")
    copy_registry(empty_registry, home)
    variables = {
        "RETAIL_HOME": str(home),
        "RETAIL_MONGODB_URI": mongod_uri,
        "RETAIL_MONGODB_DATABASE": new_database_name(),
        "RETAIL_SEARCH_ROWS": "1000",
        "RETAIL_FIT_ROWS": "2000",
        "RETAIL_MIN_MATURED_BUYERS": "1000000",
    }
    settings = Settings(
        home=home, mongodb_uri=mongod_uri, mongodb_database=variables["RETAIL_MONGODB_DATABASE"]
    )
    shop = FlowShop(prefect_environment | variables, settings, prefect_environment["PREFECT_API_URL"])
    simulate(SimulationConfig(users=500, days=34, seed=3, start=date(2025, 1, 1)), home / "log.csv", None)
    as_of = ("--as-of", SCORED.isoformat())
    _, _, shop.scored_next_day, _ = shop.run_in_one_process(
        ("ingest", str(home / "log.csv"), "--source", "canonical"),
        ("train", *as_of, "--model", "logistic"),
        ("score", "--no-store"),
        ("score", *as_of, "--out", str(home / "scores.csv")),
    )
    shop.artifacts = {key: shop.artifact(key) for key in ("ingest-counts", "training", "score-top-users")}
    shop.messages = {flow: shop.last_state(flow)["message"] for flow in ("ingest", "train", "score")}
    yield shop
    drop_database(settings)
