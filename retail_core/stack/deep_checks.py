"""`retail doctor --deep`: everything that is stored is read and compared; one result per finding."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from pymongo.errors import OperationFailure

from retail_core.errors import RetailError
from retail_core.settings import Settings
from retail_core.stack.doctor_check import DoctorCheck, failed_check
from retail_core.stack.services import runs_mlflow
from retail_core.store.mongo.connection import Store, open_store

_REBUILD = "run `retail lake rebuild`."
_RESTORE = "restore a backup with `retail restore`."
_UNAUTHORIZED = 13

Findings = Iterator[DoctorCheck]


def deep_checks(settings: Settings, progress: Callable[[str], object]) -> list[DoctorCheck]:
    """Read everything that is stored; a check without a finding has one result, `ok`.

    Args:
        settings: of the home.
        progress: called with the name of each check before it begins.
    """
    checks: dict[str, Callable[[], Findings]] = {"home files": lambda: _home_files(settings)}
    registry = settings.home_dir / "mlflow" / "mlflow.db"
    if runs_mlflow(settings) and registry.exists():
        checks["mlflow database"] = lambda: _sqlite(registry)
    if not runs_mlflow(settings) or registry.exists():
        checks["model versions"] = lambda: _model_versions(settings)
    results = _run(checks, progress)
    if settings.mongodb_uri is None and not (settings.home_dir / "mongo" / "data").exists():
        return results
    try:
        store = open_store(settings)
    except RetailError as error:
        return [*results, DoctorCheck("stored rows", "fail", error.message, error.remedy)]
    with store:
        return results + _run(
            {
                "promotion record": lambda: _promotions(store),
                "collections": lambda: _collections(store),
                "ledger": lambda: _ledger(store),
                "lake files": lambda: _lake_files(settings),
                "lake rows": lambda: _lake_rows(store),
            },
            progress,
        )


def _run(checks: dict[str, Callable[[], Findings]], progress: Callable[[str], object]) -> list[DoctorCheck]:
    results: list[DoctorCheck] = []
    for name, check in checks.items():
        progress(name)
        try:
            results += check()
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding, whatever failed
            results.append(failed_check(name, error))
    return results


def _home_files(settings: Settings) -> Findings:
    """Whether this user can read and write everything in the home."""
    count, name = 0, "home files"
    for folder, folders, files in os.walk(settings.home_dir):
        for path in (Path(folder) / entry for entry in (*folders, *files)):
            count += 1
            if not path.is_socket() and not os.access(path, os.R_OK | os.W_OK):
                yield DoctorCheck(
                    name, "fail", f"{path} cannot be read and written", "correct its owner or mode."
                )
    yield DoctorCheck(name, "ok", f"{count:,} files and folders below {settings.home_dir} were examined")


def _sqlite(path: Path) -> Findings:
    name = "mlflow database"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        rows = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    for row in rows if rows != ["ok"] else []:
        yield DoctorCheck(name, "fail", f"{path}: {row}", _RESTORE)
    yield DoctorCheck(name, "ok", f"{path} was checked")


def _model_versions(settings: Settings) -> Findings:
    from retail_core.registry.versions import load_version, version_numbers

    name, versions = "model versions", version_numbers(settings)
    for version in versions:
        try:
            load_version(settings, version)
        except RetailError as error:
            yield DoctorCheck(name, "fail", error.message, error.remedy)
    yield DoctorCheck(name, "ok", f"{len(versions)} were loaded and compared with their hashes")


def _promotions(store: Store) -> Findings:
    from retail_core.registry.promotion_record import history, promoted_version
    from retail_core.registry.versions import production_version

    name, entries = "promotion record", history(store)
    recorded, alias = promoted_version(store), production_version(store.settings)
    if recorded != alias:
        what = f"the record has version {recorded}, MLflow's alias `production` names {alias}"
        remedy = "run `retail models list`, which sets the alias, or promote a version that MLflow has."
        yield DoctorCheck(name, "fail", what, remedy)
    yield DoctorCheck(name, "ok", f"{len(entries)} entries were read")


def _collections(store: Store) -> Findings:
    name, names = "collections", store.database.list_collection_names()
    for collection in sorted(names):
        try:
            result = store.database.validate_collection(collection, background=True)
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            remedy = "grant the role dbAdmin, or run `validate` as an administrator."
            yield DoctorCheck(name, "warn", "this user may not validate collections", remedy)
            return
        if not result.get("valid", False):
            reasons = "; ".join(map(str, result.get("errors", ()))) or "it is not valid"
            yield DoctorCheck(name, "fail", f"`{collection}`: {reasons}", _RESTORE)
    yield DoctorCheck(name, "ok", f"MongoDB has validated {len(names)}")


def _ledger(store: Store) -> Findings:
    from retail_core.store.mongo.ledger_checks import all_unknown_windows, damaged_windows, window_mismatches

    name, undo = "ledger", "restore a backup, or undo and ingest the file again."
    damaged = damaged_windows(store)
    for error in damaged:
        yield DoctorCheck(name, "fail", error.message, error.remedy)
    for window_id in all_unknown_windows(store):
        count = store.events.count_documents({"window_id": window_id})
        what = f"{count:,} events have window {window_id}, which is not in the ingestion ledger"
        yield DoctorCheck(name, "fail", what, undo)
    if not damaged:
        for mismatch in window_mismatches(store):
            yield DoctorCheck(name, "fail", str(mismatch), undo)
    count = store.ledger.count_documents({"kind": "window"})
    yield DoctorCheck(name, "ok", f"{count:,} windows were compared with their events")


def _lake_files(settings: Settings) -> Findings:
    from retail_core.store.lake.table import damage

    for sentence in damage(settings.lake_url, read_objects=True):
        yield DoctorCheck("lake files", "fail", sentence, _REBUILD)
    yield DoctorCheck("lake files", "ok", f"every file at {settings.lake_url} was read")


def _lake_rows(store: Store) -> Findings:
    from retail_core.store.lake.comparison import differences

    for sentence in differences(store):
        yield DoctorCheck("lake rows", "fail", sentence, _REBUILD)
    yield DoctorCheck("lake rows", "ok", "every row was compared with MongoDB by day")
