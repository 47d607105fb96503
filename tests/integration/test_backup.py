"""Backups under load, restores elsewhere, kills of both, erasures since, and refusals, on a real MongoDB."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.backup.backup_manifest import read_manifest, verify_files
from retail_core.backup.create import BackupReport, create_backup
from retail_core.backup.erasure_sources import read_erasures
from retail_core.backup.restore import RestoreReport, restore_backup
from retail_core.errors import InputError
from retail_core.ingest import ingest
from retail_core.privacy import erasure
from retail_core.scoring.list_predictions import predict_eligible
from retail_core.settings import Settings
from retail_core.store.lake.table import sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongod.embedded import stop_mongod
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.command_line import retail
from tests.forked_processes import ForkedProcess
from tests.home_copies import drop_database, new_database_name
from tests.integration.test_home_copies import values_with
from tests.killed_programs import back_up, back_up_to_full_disk, restore_home
from tests.serving import AS_OF, Shop

pytestmark = [pytest.mark.integration, pytest.mark.long]
USER, OTHER_USER, RETURNED_USER = "u 1", "u2", "u3"


def quiet(_stage: str, _done: int, _total: int) -> None:
    """No progress."""


@pytest.fixture
def new_target(settings: Settings, tmp_path: Path) -> Iterator[Callable[[], Settings]]:
    """Settings of homes that do not exist, each with a database that does not exist."""
    targets: list[Settings] = []

    def create() -> Settings:
        update = {
            "home": tmp_path / f"restored{len(targets)}",
            "mongodb_database": new_database_name(),
        }
        targets.append(settings.model_copy(update=update))
        return targets[-1]

    yield create
    for created in targets:
        drop_database(created)


@pytest.fixture
def target(new_target: Callable[[], Settings]) -> Settings:
    return new_target()


def backup(settings: Settings, folder: Path) -> BackupReport:
    with open_store(settings) as store:
        return create_backup(store, folder, quiet)


def restore(settings: Settings, folder: Path, erasures_from: Path | None = None) -> RestoreReport:
    log = read_erasures(erasures_from, settings, "retail") if erasures_from else None
    return restore_backup(settings, folder, erasures=log, advance=quiet)


def documents(settings: Settings) -> dict[str, list[str]]:
    """Every document by collection, as text, except where the database was restored from."""
    with open_store(settings) as store:
        names = sorted(set(store.database.list_collection_names()) - {"restores"})
        return {name: sorted(map(str, store.database[name].find())) for name in names}


def predictions(settings: Settings) -> pd.DataFrame:
    with open_store(settings) as store:
        workspace = Workspace.synchronized(store)
        return predict_eligible(workspace.lake.snapshot(), champion_of(settings), AS_OF, workspace.engine)


def write_log(file: Path, user: str, day: int, rows: int = 3) -> Path:
    at = AS_OF + timedelta(days=day)
    lines = [f"{user},{(at + timedelta(minutes=row)).isoformat()},view_item" for row in range(rows)]
    file.write_text("\n".join(["user_id,event_time,event_type", *lines, f"{user},never,view_item"]) + "\n")
    return file


class Load:
    """Ingests one small file after another in a thread; `wait_for_more` returns after the next two."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.files, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._run, args=(store, folder))

    def _run(self, store: Store, folder: Path) -> None:
        folder.mkdir()
        while not self._stop.is_set():
            log = write_log(folder / f"{self.files}.csv", f"load{self.files}", self.files % 20)
            ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
            self.files += 1

    def wait_for_more(self, *_: object) -> None:
        enough = self.files + 2
        while self.files < enough and self._thread.is_alive():
            time.sleep(0.01)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            self.wait_for_more()
            yield
        finally:
            self._stop.set()
            self._thread.join()


def test_a_backup_under_load_is_whole_and_predicts_the_same_elsewhere(
    shop: Shop, target: Settings, tmp_path: Path
) -> None:
    folder, stages = tmp_path / "backup", set()
    with open_store(shop.settings) as store:
        load = Load(store, tmp_path / "load")

        def advance(stage: str, _done: int, _total: int) -> None:
            if stage not in stages:
                stages.add(stage)
                load.wait_for_more()

        with load.running():
            report = create_backup(store, folder, advance)
        later = store.events.count_documents({})
    assert report.collections["events"] < later
    assert {"events", "ingest_ledger", "artifacts"} <= stages
    assert report.versions == 1
    restored = restore(target, folder)
    assert (restored.documents, restored.versions) == (report.documents, 1)
    with open_store(target) as store:
        windows = list(store.ledger.find({"kind": "window", "state": "committed"}))
        assert len(windows) > 2
        for window in windows:
            rows = {"window_id": window["window_id"]}
            assert store.events.count_documents(rows) == window["counts"]["inserted"]
            assert store.quarantine.count_documents(rows) == window["counts"]["quarantined"]
        assert sync(store).rows == sum(window["counts"]["inserted"] for window in windows)
    pd.testing.assert_frame_equal(predictions(target), predictions(shop.settings), check_exact=True)
    assert not values_with(target.home_dir / "mlflow" / "mlflow.db", str(shop.settings.home_dir))


def test_a_lost_snapshot_is_taken_again(shop: Shop, target: Settings, tmp_path: Path) -> None:
    parameter, stages = "minSnapshotHistoryWindowInSeconds", []
    with open_store(shop.settings) as store:
        admin = store.client.admin
        previous = admin.command({"getParameter": 1, parameter: 1})[parameter]

        def lose_first_snapshot(stage: str, _done: int, _total: int) -> None:
            stages.append(stage)
            if len(stages) > 1:
                return
            admin.command({"setParameter": 1, parameter: 0})
            for number in range(30):
                store.trigger_checks.insert_one({"number": number})
                time.sleep(0.1)
            admin.command({"setParameter": 1, parameter: previous})

        try:
            report = create_backup(store, tmp_path / "backup", lose_first_snapshot)
        finally:
            admin.command({"setParameter": 1, parameter: previous})
    assert any("attempt 1 of 3" in stage for stage in stages)
    assert restore(target, tmp_path / "backup").documents == report.documents


KILLS = (0.02, 0.1, 0.25, 0.5, 0.9)
"""Fractions of the duration of the whole command."""


def test_a_killed_backup_leaves_nothing_that_looks_complete(shop: Shop, tmp_path: Path) -> None:
    began = time.perf_counter()
    expected = backup(shop.settings, tmp_path / "whole")
    duration = time.perf_counter() - began
    interrupted = 0
    for number, fraction in enumerate(KILLS):
        folder = tmp_path / f"killed{number}"
        ForkedProcess.start(back_up, shop.settings, folder).kill_after(fraction * duration)
        if not folder.exists():
            interrupted += 1
            with pytest.raises(InputError, match="is not a backup"):
                read_manifest(folder.with_name(f".{folder.name}.part"))
            backup(shop.settings, folder)
        manifest = read_manifest(folder)
        verify_files(folder, manifest, quiet)
        assert manifest.documents == expected.collections
        assert not folder.with_name(f".{folder.name}.part").exists()
    assert interrupted


def artifacts(settings: Settings) -> dict[Path, bytes]:
    root = settings.home_dir / "mlflow" / "artifacts"
    return {file.relative_to(root): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def is_restored(settings: Settings) -> bool:
    """Whether other commands accept the database, and the home has no marker."""
    with open_store(settings, for_restore=True) as store:
        ended = store.restores.find_one({"state": "done"}) is not None
    return ended and not (settings.home_dir / "restore.json").exists()


def test_a_killed_restore_is_repeated_to_the_same_state(
    shop: Shop, new_target: Callable[[], Settings], tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    backup(shop.settings, folder)
    uninterrupted = new_target()
    began = time.perf_counter()
    restore(uninterrupted, folder)
    duration = time.perf_counter() - began
    expected = documents(uninterrupted)
    interrupted = 0
    for fraction in KILLS:
        killed = new_target()
        ForkedProcess.start(restore_home, killed, folder).kill_after(fraction * duration)
        if not is_restored(killed):
            interrupted += 1
            restore(killed, folder)
        assert documents(killed) == expected
        assert {path.name for path in killed.home_dir.iterdir()} - {"restore.lock", "tmp"} == {"mlflow"}
        assert artifacts(killed) == artifacts(uninterrupted)
    assert champion_of(killed).spec.version == "1"
    assert interrupted


def test_other_commands_wait_for_an_unfinished_restore(
    store: Store, target: Settings, tmp_path: Path
) -> None:
    create_backup(store, tmp_path / "backup", quiet)
    with open_store(target, for_restore=True) as restoring:
        restoring.restores.insert_one({"_id": "other", "state": "running", "folder": "/b"})
        with pytest.raises(InputError, match=r"has not ended.*retail restore /b"):
            open_store(target)
        with pytest.raises(InputError, match="is not empty"):
            restore(target, tmp_path / "backup")


@pytest.fixture
def erased_since(store: Store, tmp_path: Path) -> tuple[Path, Path]:
    """A backup, and a newer one before which a user of the first was erased.

    Another user was erased before the first backup, and has come back.
    """
    preset = sources.get_preset("canonical")
    erasure.erase(store, RETURNED_USER)
    for user in (USER, OTHER_USER, RETURNED_USER):
        ingest(store, [write_log(tmp_path / f"{user}.csv", user, 0)], preset, at=AS_OF)
    create_backup(store, tmp_path / "older", quiet)
    erasure.erase(store, USER)
    create_backup(store, tmp_path / "newer", quiet)
    return tmp_path / "older", tmp_path / "newer"


def test_users_erased_since_the_backup_are_not_restored(
    erased_since: tuple[Path, Path], store: Store, new_target: Callable[[], Settings]
) -> None:
    (older, newer), target = erased_since, new_target()
    assert USER not in json.dumps(list(store.erasures.find()), default=str)
    report = restore(target, older, erasures_from=newer)
    assert (report.erased, report.notes) == (1, [])
    with open_store(target) as restored:
        assert not any(erasure.count_stored(restored, USER).values())
        for user in (OTHER_USER, RETURNED_USER):
            counts = erasure.count_stored(restored, user)
            assert (counts["events"], counts["quarantine"]) == (3, 1)
        hashes = {document["_id"] for document in store.erasures.find()}
        assert {document["_id"] for document in restored.erasures.find()} == hashes
    report = restore(new_target(), older)
    assert report.erased == 0
    assert "--erasures-from" in report.notes[0]


def test_commands_with_the_embedded_database(tmp_path: Path) -> None:
    home, restored, folder = tmp_path / "home", tmp_path / "restored", tmp_path / "backup"
    home.mkdir()
    (home / "retail.toml").write_text(f'horizon_hours = 48\nlake = "{home}/lake"\napi_keys = ["a", "b"]\n')
    logs = [str(write_log(tmp_path / f"{user}.csv", user, 0)) for user in (USER, OTHER_USER)]
    try:
        assert retail("ingest", *logs, "--source", "canonical", home=home).returncode == 0
        written = json.loads(retail("backup", str(folder), "--json", home=home).stdout)
        assert (written["collections"]["events"], written["versions"], written["note"]) == (6, 0, None)
        assert folder.stat().st_mode & 0o077 == 0
        assert retail("user", "delete", USER, "--yes", home=home).returncode == 0
        options = ("--home", str(restored), "--erasures-from", str(home), "--json")
        done = retail("restore", str(folder), *options, home=home)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["erased"], report["settings_left_out"]) == (1, ["lake"])
        assert (restored / "retail.toml").read_text() == 'horizon_hours = 48\napi_keys = ["a", "b"]\n'
        for user, count in ((USER, 0), (OTHER_USER, 3)):
            shown = json.loads(retail("user", "show", user, "--json", home=restored).stdout)
            assert shown["events"] == count
        repeated = retail("restore", str(folder), "--home", str(restored), home=home)
        assert repeated.returncode == 1
        assert "is not empty" in repeated.stderr
        assert len(repeated.stderr.splitlines()) <= 2
    finally:
        for used in (home, restored):
            stop_mongod(Settings(home=used))


def test_unusable_backups_are_refused_in_one_line(store: Store, target: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    create_backup(store, folder, quiet)
    manifest, ledger = folder / "manifest.json", folder / "mongodb" / "ingest_ledger.bson"
    text = manifest.read_text()
    damages: dict[str, Callable[[], object]] = {
        "is not a backup": manifest.unlink,
        "written by release 9.0.0": lambda: manifest.write_text(text.replace('"0.2.0"', '"9.0.0"')),
        "manifest.json is damaged": lambda: manifest.write_text(text.replace('"bytes": 0', '"bytes": 1')),
        "ingest_ledger.bson does not match": lambda: ledger.write_bytes(b"x"),
        "ingest_ledger.bson is missing": ledger.unlink,
    }
    for message, damage in damages.items():
        manifest.write_text(text)
        damage()
        done = retail("restore", str(folder), "--json", home=target.home_dir)
        assert done.returncode == 1
        assert message in json.loads(done.stdout)["error"]
        assert not target.home_dir.exists()
    neither = retail("restore", str(folder), "--erasures-from", str(tmp_path), home=target.home_dir)
    assert neither.returncode == 1


def test_a_folder_in_use_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        create_backup(store, tmp_path, quiet)


def test_a_full_disk_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.trigger_checks.insert_many([{"text": "x" * 100} for _ in range(100)])
    message = ForkedProcess.start(back_up_to_full_disk, store.settings, tmp_path / "backup").result()
    assert f"{tmp_path}/backup cannot be written: File too large" in message
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]


def test_a_backup_that_cannot_be_written_leaves_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        create_backup(store, tmp_path / "file" / "backup", quiet)
    assert not [path for path in tmp_path.iterdir() if "backup" in path.name]


def test_an_external_registry_is_named_as_missing(store: Store, target: Settings, tmp_path: Path) -> None:
    external = store.settings.model_copy(update={"mlflow_tracking_uri": "http://mlflow.example:5000"})
    report = create_backup(replace(store, settings=external), tmp_path / "backup", quiet)
    assert report.versions is None
    assert "MLFLOW_TRACKING_URI" in str(report.note)
    assert "registry was not restored" in restore(target, tmp_path / "backup").notes[0]
