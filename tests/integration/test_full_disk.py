"""A full disk is named as such in one line, whichever part writes to it: on a small file system in memory."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from retail_core.settings import Settings
from retail_core.sources.parse_notes import ParseNotes
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.row_counts import RowCounts
from tests.command_line import retail
from tests.full_disks import fill
from tests.home_copies import copy_registry

pytestmark = pytest.mark.integration


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a file system can be mounted by root only: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def refused(home: Path, *command: str, code: int, **variables: str) -> str:
    """The one line of a command that fails."""
    done = retail(*command, "--json", home=home, **variables)
    assert done.returncode == code, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: The disk is full")
    assert "Remedy: free space" in line
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["error"].startswith("The disk is full")
    return line


def variables(settings: Settings) -> dict[str, str]:
    assert settings.mongodb_uri is not None
    return {
        "RETAIL_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
    }


def test_the_embedded_server_cannot_start(disk: Path) -> None:
    fill(disk)
    assert str(disk) in refused(disk / "home", "quarantine", "list", code=1)


def test_the_lake_cannot_be_written(disk: Path, store: Store) -> None:
    run = ledger.IngestionRun("log.csv", "log.csv")
    window_id = ledger.open_window(store, run, (1, 1)).window_id
    added = {"users": 0, "links": 0}
    ledger.commit_window(store, run, window_id, RowCounts(), last=1, added=added, notes=ParseNotes())
    fill(disk)
    lake = {"RETAIL_LAKE": str(disk / "lake")}
    refused(store.settings.home_dir, "lake", "rebuild", code=3, **variables(store.settings), **lake)


def test_a_backup_cannot_be_written(disk: Path, store: Store) -> None:
    fill(disk)
    target = str(disk / "backup")
    assert target in refused(store.settings.home_dir, "backup", target, code=1, **variables(store.settings))


def test_the_registry_cannot_be_written(disk: Path, empty_registry: Settings, store: Store) -> None:
    copy_registry(empty_registry, disk / "home")
    fill(disk)
    refused(disk / "home", "retrain", "--as-of", "2025-01-29", code=3, **variables(store.settings))
