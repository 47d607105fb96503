"""A home, logs and backups whose paths have characters with a meaning in URLs, globs and shells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retail_core.settings import Settings
from tests.command_line import retail, store_variables
from tests.home_copies import copy_home, drop_database
from tests.serving import AS_OF, Shop

pytestmark = [pytest.mark.integration, pytest.mark.long]

FOLDER = "50% off? #1 & 'x' \"y\" *ü* {z};="
FILE = "%20 [a-b]*?#"


def run(settings: Settings, *command: str, **changed: str) -> dict[str, Any]:
    done = retail(*command, "--json", home=settings.home_dir, **(store_variables(settings) | changed))
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_the_whole_chain_runs_in_a_home_with_special_characters(shop: Shop, tmp_path: Path) -> None:
    folder, as_of = tmp_path / FOLDER, ("--as-of", AS_OF.isoformat())
    folder.mkdir()
    settings = copy_home(shop.settings, folder / "home")
    header, *lines = shop.log.read_text().splitlines()
    log, scores = folder / f"{FILE}.csv", folder / f"scores {FILE}.csv"
    log.write_text("\n".join([header, *lines[:20]]))
    assert run(settings, "ingest", str(log))["rows_read"] == 20
    assert run(settings, "train", "--model", "logistic", "--cutoffs", "daily", *as_of)["version"] == "2"
    assert run(settings, "score", *as_of, "--out", str(scores))["users"] == len(shop.scores)
    assert scores.is_file()
    checks = {check["name"]: check for check in run(settings, "doctor", "--deep")["checks"]}
    assert checks["mlflow database"]["state"] == checks["model versions"]["state"] == "ok", checks
    assert run(settings, "backup", str(folder / FILE))["versions"] == 2
    restored = settings.model_copy(
        update={"home": folder / f"restored {FILE}", "mongodb_database": f"{settings.mongodb_database}_r"}
    )
    run(restored, "restore", str(folder / FILE), "--home", str(restored.home_dir))
    assert [version["version"] for version in run(restored, "models", "list")["versions"]] == ["2", "1"]
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]
    for copy in (settings, restored):
        drop_database(copy)
