"""A home that was copied to another path uses its own files only, while the original exists."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from retail_core.registry import versions as registry
from retail_core.registry.artifact_locations import relocate_artifacts
from retail_core.scoring.scores import score
from retail_core.settings import Settings
from retail_core.stack.state import StackFiles, StackState
from retail_core.store.mongo.connection import open_store
from retail_core.training.pipeline import train
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.home_copies import copy_registry, drop_database
from tests.serving import AS_OF, OPTIONS, Shop

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def copied_shop(shop: Shop, tmp_path: Path) -> Iterator[Shop]:
    """A copy of the shop whose original's artifacts are damaged, so that reading them would fail."""
    copy = shop.copy(tmp_path / "elsewhere" / "home")
    for file in (shop.settings.home_dir / "mlflow" / "artifacts").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    yield copy
    drop_database(copy.settings)


def file_states(folder: Path) -> dict[str, tuple[int, str]]:
    """Modification time and content hash by path."""
    return {
        str(file.relative_to(folder)): (
            file.stat().st_mtime_ns,
            hashlib.sha256(file.read_bytes()).hexdigest(),
        )
        for file in folder.rglob("*")
        if file.is_file()
    }


def values_with(database: Path, text: str) -> list[tuple[str, str, str]]:
    """Table, column and value of every text in the database that contains `text`."""
    matches = []
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for column in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
                query = f"SELECT {column} FROM {table} WHERE instr(CAST({column} AS TEXT), ?)"
                matches += [(table, column, str(value)) for (value,) in connection.execute(query, (text,))]
    return matches


def test_a_copy_of_a_home_uses_its_own_artifacts_only(shop: Shop, copied_shop: Shop, tmp_path: Path) -> None:
    original, settings = shop.settings.home_dir, copied_shop.settings
    before = file_states(original)
    assert champion_of(settings).spec.version == "1"
    with open_store(settings) as store:
        workspace = Workspace.synchronized(store)
        score(workspace, as_of=AS_OF, out=tmp_path / "scores.csv")
        scores = pd.read_csv(tmp_path / "scores.csv", dtype={"user_id": "str"})
        pd.testing.assert_frame_equal(scores, shop.scores, check_exact=True)
        report = train(workspace, as_of=AS_OF, options=OPTIONS)
    assert registry.load_version(settings, report.version).spec.version == "2"
    assert file_states(original) == before
    database = settings.home_dir / "mlflow" / "mlflow.db"
    assert not values_with(database, str(original))
    assert {table for table, _, _ in values_with(database, settings.home_dir.as_uri())} == {
        *("experiments", "runs", "logged_models", "model_versions")
    }


def test_locations_are_replaced_once_and_only_below_the_previous_root(
    registered_template: Settings, tmp_path: Path
) -> None:
    home = tmp_path / "mlflow" / "artifacts" / "50% & more"
    copy_registry(registered_template, home)
    settings = Settings(home=home)
    root = str(registered_template.artifact_root)
    database = home / "mlflow" / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO experiments (experiment_id, name, artifact_location) VALUES (7, 'other', ?)",
            (f"{root}-other/7",),
        )
    count = len(values_with(database, f"{root}/")) + 1
    assert relocate_artifacts(settings) == count >= 4
    assert [value for _, _, value in values_with(database, root)] == [f"{root}-other/7"]
    assert relocate_artifacts(settings) == 0
    assert champion_of(settings).spec.version == "1"


def test_the_state_of_a_stack_is_not_that_of_a_copied_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    StackFiles(tmp_path / "home").write(StackState("id", 1, 2.0, "now"))
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    assert StackFiles(tmp_path / "copy").read() is None
    assert StackFiles(tmp_path / "home").read() == StackState("id", 1, 2.0, "now")
    content = json.loads((tmp_path / "home" / "stack.json").read_text())
    del content["home"]
    (tmp_path / "copy" / "stack.json").write_text(json.dumps(content))
    assert StackFiles(tmp_path / "copy").read() is not None
