"""The workspace: its parts follow from the store, and a command synchronizes the lake once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from retail_core import sources
from retail_core.cli.app import app
from retail_core.errors import DataError
from retail_core.ingest import ingest
from retail_core.scoring.prediction_storage import read_lake_predictions
from retail_core.scoring.scores import score
from retail_core.settings import Settings
from retail_core.stack.services import variables
from retail_core.store.lake import table
from retail_core.store.mongo.connection import Store, open_store
from retail_core.workspace import Workspace, open_workspace

pytestmark = pytest.mark.integration

MIDNIGHT = datetime(2025, 2, 1, tzinfo=UTC)
NEWEST = MIDNIGHT + timedelta(hours=9)
COMMANDS = [
    ["score", "--no-store"],
    ["audience", "--budget", "2", "--out", "audience.csv"],
    ["outcomes"],
    ["monitor"],
    ["retrain", "--check-only"],
    ["features", "--as-of", "2025-02-01", "--out", "features.parquet"],
]


def write_log(path: Path) -> Path:
    """Ten users, each with one event on the last five mornings before `NEWEST`."""
    times = [NEWEST - timedelta(days=day, minutes=user) for day in range(5) for user in range(10)]
    users = [f"u{user}" for _ in range(5) for user in range(10)]
    frame = pd.DataFrame({"user_id": users, "event_time": times, "event_type": "view_item"})
    frame["event_time"] = frame["event_time"].map(datetime.isoformat)
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def shop(registered: Settings) -> Settings:
    """A registered model, and ingested events that the lake does not have yet."""
    log = write_log(registered.home_dir.parent / "log.csv")
    with open_store(registered) as store:
        ingest(store, [log], sources.get_preset("canonical"), at=NEWEST)
    return registered


@pytest.fixture
def run(shop: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    for name, value in variables(shop).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def invoke(command: list[str]) -> None:
        result = CliRunner().invoke(app, [*command, "--json"])
        assert result.exit_code == 0, result.output

    return invoke


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_synchronizes_the_lake_once(
    run: Callable[[list[str]], None], command: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger=table.__name__):
        run(command)
    assert [
        record.getMessage().split(":")[0] for record in caplog.records if record.name == table.__name__
    ] == ["Synchronizing the lake"]


def test_settings_lake_and_predictions_follow_from_the_store(shop: Settings, tmp_path: Path) -> None:
    """A store with other settings is another workspace: nothing reaches the lake of the first one."""
    with open_store(shop) as store:
        other_settings = shop.model_copy(update={"lake": str(tmp_path / "lake")})
        workspace = Workspace.synchronized(replace(store, settings=other_settings))
        assert workspace.settings is other_settings
        report = score(workspace, as_of=MIDNIGHT, out=None)
    stored = {"as_of": MIDNIGHT, "version": report.model_version}
    assert len(read_lake_predictions(other_settings.lake_url, **stored)) == report.users == 10
    with pytest.raises(FileNotFoundError):
        read_lake_predictions(shop.lake_url, **stored)


def test_a_pinned_workspace_keeps_its_state_of_the_lake(store: Store, tmp_path: Path) -> None:
    workspace = Workspace.synchronized(store)
    pinned = workspace.pinned()
    ingest(store, [write_log(tmp_path / "log.csv")], sources.get_preset("canonical"), at=NEWEST)
    assert Workspace.synchronized(store).lake.state().rows == workspace.lake.state().rows == 50
    assert pinned.lake.state().rows == 0


def test_the_default_cutoff_is_the_newest_event_or_the_midnight_before_it(shop: Settings) -> None:
    with open_workspace(shop) as workspace:
        assert workspace.resolve_as_of(None, midnight=False) == workspace.newest_event == NEWEST
        assert workspace.resolve_as_of(None, midnight=True) == MIDNIGHT
        assert workspace.resolve_as_of("2025-01-31", midnight=True) == MIDNIGHT - timedelta(days=1)


def test_without_events_there_is_no_default_cutoff(store: Store) -> None:
    with pytest.raises(DataError, match="no events yet"):
        Workspace(store).resolve_as_of(None, midnight=True)
