"""Versions of the lake that a training has read: their files are kept, and MongoDB can replace them."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from retail_core.settings import Settings
from retail_core.store.lake import table
from retail_core.store.lake.erase import erase_from_lake
from retail_core.store.lake.merging import FILES_PER_DAY
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.scratch_lake import lake_of_windows
from retail_core.store.lake.table import rebuild, sync
from retail_core.store.lake.table_version import TableVersion
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.identities import StoredLink, add_links
from retail_core.training.pinned_reading import read_pinned
from retail_core.workspace import Workspace
from tests.lake_windows import START, event, put

pytestmark = pytest.mark.integration
LATER = START + timedelta(days=30)


@pytest.fixture
def pinned(store: Store) -> dict[str, TableVersion]:
    """Versions of a lake whose day has been written anew since; no reader but a pin needs the old files."""
    store.identities.delete_many({})
    add_links(store, [StoredLink("u1", "u2", START)], ["file"], "canonical")
    store.users.insert_one(
        {"_id": "u1", "user_id": "u1", "valid_from": START, "attributes": "{}", "window_id": 1}
    )
    put(store, 1, [event(1, 1), event(2, 1)], users=1)
    sync(store)
    lake = Lake(store.settings.lake_url)
    lake.pin()
    versions = lake.hashes().tables
    for window_id in range(2, FILES_PER_DAY + 2):
        put(store, window_id, [event(window_id * 10, window_id)])
        sync(store)
    return versions


def event_rows(lake: Lake | None) -> int:
    assert lake is not None
    return sum(len(pq.ParquetFile(path).read()) for path in lake.files())


def age_pins(store: Store, days: int) -> None:
    past = time.time() - days * 86_400
    for pin in Path(store.settings.lake_url).glob("pins/*/*"):
        os.utime(pin, (past, past))


def superseded_files(store: Store) -> list[str]:
    events = DeltaTable(Path(store.settings.lake_url) / "events")
    paths = events.vacuum(0, enforce_retention_duration=False)
    return [path for path in paths if (Path(store.settings.lake_url) / "events" / path).exists()]


def test_files_of_a_pinned_version_outlive_superseded_ones(
    store: Store, pinned: dict[str, TableVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(pinned) == {"events", "users", "identities"}
    assert TableVersion.from_dict(pinned["events"].to_dict()) == pinned["events"]
    assert len(superseded_files(store)) == FILES_PER_DAY
    monkeypatch.setattr(table, "KEPT_HOURS", 0)
    age_pins(store, 29)
    sync(store)
    assert len(superseded_files(store)) == 1
    lake = Lake(store.settings.lake_url)
    assert event_rows(lake) == FILES_PER_DAY + 2
    past = lake.at_versions(pinned)
    assert event_rows(past) == 2
    assert past is not None
    assert past.hashes().tables == pinned
    age_pins(store, 31)
    sync(store)
    assert superseded_files(store) == []
    assert list(Path(store.settings.lake_url).glob("pins/events/*")) == []
    assert lake.at_versions(pinned) is None


def test_an_erasure_deletes_the_files_of_pinned_versions(
    store: Store, pinned: dict[str, TableVersion]
) -> None:
    snapshot = Lake(store.settings.lake_url).snapshot()
    assert snapshot.is_intact()
    store.events.delete_many({"user_id": "u1"})
    erase_from_lake(store.settings, "u1")
    assert superseded_files(store) == []
    assert Lake(store.settings.lake_url).at_versions(pinned) is None
    assert not snapshot.is_intact()


@pytest.mark.parametrize("change", ["deleted", "rebuilt"])
def test_the_ledger_windows_of_a_version_give_the_same_rows(
    store: Store, pinned: dict[str, TableVersion], change: str, tmp_path: Path
) -> None:
    if change == "deleted":
        shutil.rmtree(store.settings.lake_url)
        sync(store)
        assert Lake(store.settings.lake_url).at_versions(pinned) is None
    else:
        rebuild(store)
        assert event_rows(Lake(store.settings.lake_url).at_versions(pinned)) == 2
    add_links(store, [StoredLink("u3", "u4", LATER)], ["file"], "canonical")
    restored = lake_of_windows(store, pinned, LATER, tmp_path).hashes().tables
    assert {name: version.digest for name, version in restored.items()} == {
        name: version.digest for name, version in pinned.items()
    }


def erase_user(store: Store) -> None:
    store.events.delete_many({"user_id": "u1"})
    erase_from_lake(store.settings, "u1")


@pytest.mark.parametrize("fails", [False, True], ids=["between two reads", "under a read"])
def test_what_was_read_during_an_erasure_is_read_again(
    store: Store, fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, 1, [event(1, 1), event(2, 1)])
    sync(store)
    counts: list[int] = []

    def read(workspace: Workspace) -> int:
        counts.append(event_rows(workspace.lake))
        if len(counts) == 1:
            paths = workspace.lake.files()
            erase_user(store)
            if fails:
                pq.ParquetFile(paths[0])
        return counts[-1]

    workspace, rows = read_pinned(Workspace(store), read)
    assert (counts, rows) == ([2, 1], 1)
    assert event_rows(workspace.lake) == 1
    assert "A user was erased while the lake was read; it is read again." in caplog.text
    assert len(list(Path(store.settings.lake_url).glob("pins/events/*"))) == 2


def test_an_error_without_an_erasure_is_not_hidden(store: Store) -> None:
    put(store, 1, [event(1, 1)])
    sync(store)

    def fail(_: Workspace) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        read_pinned(Workspace(store), fail)


def test_the_log_is_kept_as_long_as_the_files_of_pinned_versions(store: Store, settings: Settings) -> None:
    put(store, 1, [event(1, 1)])
    sync(store)
    assert log_retention(store) == "interval 31 days"
    version = DeltaTable(Path(store.settings.lake_url) / "events").version()
    sync(store)
    assert DeltaTable(Path(store.settings.lake_url) / "events").version() == version
    changed = settings.model_copy(update={"lake_retention_days": 90})
    sync(replace(store, settings=changed))
    assert log_retention(store) == "interval 91 days"


def log_retention(store: Store) -> str:
    events = DeltaTable(Path(store.settings.lake_url) / "events")
    return events.metadata().configuration["delta.logRetentionDuration"]
