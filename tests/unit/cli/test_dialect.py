"""A command takes a preset or a mapping; `retail quarantine replay` names the sources that it could read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retail_core.client import Client
from retail_core.errors import InputError
from tests.command_line import ROOT, retail

COMMANDS = {
    "ingest": ("ingest", "log.csv"),
    "dry run": ("ingest", "log.csv", "--dry-run"),
    "replay": ("quarantine", "replay"),
    "leakage": ("doctor", "--leakage", "log.csv"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_source_beside_a_mapping_is_a_usage_error(tmp_path: Path, name: str) -> None:
    both = ("--source", "canonical", "--mapping", str(tmp_path / "shop.yaml"), "--json")
    done = retail(*COMMANDS[name], *both, home=tmp_path / "home")
    assert done.returncode == 2
    assert "not both" in json.loads(done.stdout)["error"]
    assert not (tmp_path / "home").exists()


def test_the_flow_refuses_both_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flows.ingest", "log.csv", "--source", "ga4", "--mapping", "shop.yaml"]
    environment = os.environ | {"RETAIL_HOME": str(tmp_path), "PREFECT_HOME": str(tmp_path / "prefect")}
    done = subprocess.run(
        [*command, "--json"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "not both" in json.loads(done.stdout)["error"]


def test_the_client_refuses_both_too(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(InputError, match="not both"):
        client.score_file(tmp_path / "log.csv", source="ga4", mapping=tmp_path / "shop.yaml")
