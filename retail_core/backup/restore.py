"""Restore a backup into an empty home and an empty database; a killed restore is repeated from the start.

While it runs, a marker in the home and one in the database keep every other command out, and tell the next
restore that what is there may be dropped.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from retail_core.backup import collection_files, registry_files
from retail_core.backup.backup_manifest import (
    COLLECTIONS_FOLDER,
    SETTINGS_FILE,
    Advance,
    Manifest,
    read_manifest,
    verify_files,
)
from retail_core.errors import InputError
from retail_core.file_locks import create_private_folder, try_lock, write_atomically
from retail_core.privacy.erasure import COLLECTIONS, erase
from retail_core.privacy.erasure_log import ErasureLog, merge_erasures, users_erased_since
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store

MARKER_FILE, LOCK_FILE = "restore.json", "restore.lock"
PLACES = (
    *("home", "mongodb_uri", "mongodb_database", "lake", "mlflow_tracking_uri", "prefect_api_url"),
    "bentoml_home",
)
"""Settings that name places of the original home; a restored home does not inherit them."""

_ALLOWED_FILES = {MARKER_FILE, LOCK_FILE, SETTINGS_FILE, "mongo", "tmp"}


@dataclass(frozen=True)
class RestoreReport:
    """What was restored; `erased` counts the users of the backup that were erased since."""

    folder: Path
    home: Path
    id: str
    at: datetime
    documents: int
    collections: dict[str, int]
    versions: int | None
    erased: int
    settings_left_out: list[str]
    notes: list[str]


def restore_backup(
    settings: Settings, folder: Path, *, erasures: ErasureLog | None, advance: Advance
) -> RestoreReport:
    """Restore a backup; running it again after it was killed reaches the same state.

    Args:
        settings: of the new home. The database is the one they name, by default an embedded one.
        folder: a backup.
        erasures: newer record of erasures; the users in it that were erased since the backup are removed.
        advance: receives the progress.

    Raises:
        InputError: the folder is not a backup, a newer release wrote it, or home or database are not empty.
        IntegrityError: a file of the backup is damaged, or the counts differ at the end.
        DependencyError: MongoDB or MLflow's database cannot be used.
    """
    source = folder.absolute()
    manifest = read_manifest(source)
    verify_files(source, manifest, advance)
    with (
        _locked_home(settings.home_dir, manifest),
        open_store(settings, for_restore=True) as store,
        collection_files.translated_errors(store),
    ):
        omitted_settings: list[str] = []
        if not _is_done(store, manifest):
            _begin(store, source, manifest)
            omitted_settings = _restore_content(store, source, manifest, advance)
        users = _erase_again(store, manifest, erasures, advance)
        store.restores.update_one({"_id": manifest.id}, [{"$set": {"state": "done", "ended": "$$NOW"}}])
        (settings.home_dir / MARKER_FILE).unlink(missing_ok=True)
    return RestoreReport(
        folder=source,
        home=settings.home_dir,
        id=manifest.id,
        at=manifest.at,
        documents=sum(manifest.documents.values()),
        collections=dict(manifest.documents),
        versions=manifest.versions,
        erased=users,
        settings_left_out=omitted_settings,
        notes=_notes(settings, manifest, erasures),
    )


def _restore_content(store: Store, source: Path, manifest: Manifest, advance: Advance) -> list[str]:
    """Restore registry, collections and settings; returns the keys of the settings that are left out."""
    settings = store.settings
    if manifest.versions is not None and settings.mlflow_tracking_uri is None:
        registry_files.restore_registry(settings, source, manifest, advance)
    collection_files.insert_collections(store, source / COLLECTIONS_FOLDER, manifest.documents, advance)
    collection_files.release_leases(store)
    store.create_indexes()
    return _restore_settings(source, settings.home_dir)


@contextmanager
def _locked_home(home: Path, manifest: Manifest) -> Iterator[None]:
    """Keep other restores out of the home.

    Raises:
        InputError: the home is not empty or cannot be written, or another restore runs or has not ended.
    """
    try:
        create_private_folder(home)
        lock = try_lock(home / LOCK_FILE)
        if lock is None:
            raise InputError(f"A restore into {home} is running.", remedy="wait for it to end.")
        try:
            _refuse_used_home(home, manifest)
            yield
        finally:
            (home / LOCK_FILE).unlink(missing_ok=True)
            lock.release()
    except OSError as error:
        raise InputError(
            f"The home {home} cannot be written: {error.strerror}.",
            remedy="free disk space, or name a writable folder, then run the command again.",
        ) from error


def _refuse_used_home(home: Path, manifest: Manifest) -> None:
    marker = home / MARKER_FILE
    if marker.exists():
        if json.loads(marker.read_text())["id"] != manifest.id:
            raise InputError(
                f"The restore of another backup into {home} has not ended.",
                remedy="restore that one again, or delete the home.",
            )
        return
    present = sorted(path.name for path in home.iterdir() if path.name not in _ALLOWED_FILES)
    if present:
        raise InputError(
            f"The home {home} is not empty: it has {present[0]}.", remedy="name a new home with --home."
        )


def _is_done(store: Store, manifest: Manifest) -> bool:
    """Whether only the marker of the home is left of a killed restore of this backup."""
    is_marked = (store.settings.home_dir / MARKER_FILE).exists()
    return is_marked and store.restores.find_one({"_id": manifest.id, "state": "done"}) is not None


def _begin(store: Store, source: Path, manifest: Manifest) -> None:
    """Mark home and database, and drop what an earlier attempt inserted.

    Raises:
        InputError: the database is not empty.
    """
    running = store.restores.find_one({"state": "running"})
    is_repeated = running is not None and running["_id"] == manifest.id
    if not is_repeated and (running is not None or collection_files.has_documents(store)):
        raise InputError(
            f"The database {store.database.name} is not empty.",
            remedy="set RETAIL_MONGODB_DATABASE to a new name, or drop this database.",
        )
    write_atomically(store.settings.home_dir / MARKER_FILE, json.dumps({"id": manifest.id}))
    state = {"state": "running", "folder": {"$literal": str(source)}, "began": "$$NOW"}
    store.restores.update_one({"_id": manifest.id}, [{"$set": state}], upsert=True)
    collection_files.drop_collections(store)


def _erase_again(store: Store, manifest: Manifest, erasures: ErasureLog | None, advance: Advance) -> int:
    """Remove the users of the backup that were erased since; returns their number."""
    if erasures is None:
        return 0
    users = users_erased_since(store, erasures, manifest.at, COLLECTIONS)
    merge_erasures(store, erasures)
    for number, user_id in enumerate(users, 1):
        erase(store, user_id)
        advance("erasures", number, len(users))
    return len(users)


def _restore_settings(source: Path, home: Path) -> list[str]:
    """Write the settings of the backup without places, unless the home has its own; the keys left out."""
    file, target = source / SETTINGS_FILE, home / SETTINGS_FILE
    if not file.is_file() or target.exists():
        return []
    values = tomllib.loads(file.read_text(encoding="utf-8"))
    lines = [
        f"{name} = {json.dumps(value, default=str)}" for name, value in values.items() if name not in PLACES
    ]
    write_atomically(target, "".join(f"{line}\n" for line in lines), mode=0o600)
    return [name for name in values if name in PLACES]


def _notes(settings: Settings, manifest: Manifest, erasures: ErasureLog | None) -> list[str]:
    notes = []
    if manifest.versions is None or settings.mlflow_tracking_uri is not None:
        notes.append("The registry was not restored: MLflow's server is backed up by its own means.")
    if settings.lake is not None:
        notes.append(f"RETAIL_LAKE names {settings.lake}: run `retail lake rebuild` once, or unset it.")
    if erasures is None:
        notes.append("Users who were erased since the backup are in it: see --erasures-from.")
    return notes
