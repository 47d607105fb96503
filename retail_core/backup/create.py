"""Write a backup of a running home: database, registry and settings, each in one consistent state.

The database is read at one instant, and the registry's database is copied at that instant, while its lock is
held. The lake is not part of a backup: it is rebuilt from the database.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pymongo.errors import OperationFailure

from retail_core import __version__
from retail_core.backup import collection_files, registry_files
from retail_core.backup.backup_manifest import (
    COLLECTIONS_FOLDER,
    PART_SUFFIX,
    REGISTRY_FOLDER,
    SETTINGS_FILE,
    Advance,
    FileDigest,
    Manifest,
    copy_file,
    file_digest,
)
from retail_core.errors import InputError
from retail_core.file_locks import create_private_folder, try_lock
from retail_core.store.mongo.connection import Store, server_time
from retail_core.temporary_files import noted_partial

ATTEMPTS = 3
_LOCK_FILE = ".lock"


@dataclass(frozen=True)
class BackupReport:
    """What was written: the folder, the manifest's content in numbers, and what is not in it."""

    folder: Path
    id: str
    at: datetime
    documents: int
    collections: dict[str, int]
    versions: int | None
    files: int
    bytes: int
    note: str | None


def create_backup(store: Store, folder: Path, advance: Advance) -> BackupReport:
    """Write a backup to `folder`, which appears when it is complete.

    Until then its files are in the hidden folder `.NAME.part` beside it, which the next command of the
    home removes if this one is killed.

    Args:
        store: an open database; its settings name the home.
        folder: does not exist, or is empty.
        advance: receives the progress.

    Raises:
        InputError: the folder is in use or cannot be written.
        DependencyError: MongoDB or MLflow's database cannot be read, or the snapshot was lost every time.
        IntegrityError: artifacts of a model version are missing.
    """
    target = folder.absolute()
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"{target} exists and is not an empty folder.", remedy="name a new folder.")
    try:
        with collection_files.translated_errors(store), _part_folder(target) as part:
            manifest = _write_content(store, part, advance)
            manifest.write(part)
            os.sync()
            (part / _LOCK_FILE).unlink()
            part.rename(target)
    except OSError as error:
        raise InputError(
            f"The backup {target} cannot be written: {error.strerror}.",
            remedy="free disk space, or name a writable folder; nothing was written there.",
        ) from error
    return _report(store, target, manifest)


def _report(store: Store, folder: Path, manifest: Manifest) -> BackupReport:
    note = None
    if store.settings.mlflow_tracking_uri is not None:
        note = "The registry is not in it: back up the MLflow server of MLFLOW_TRACKING_URI by its own means."
    return BackupReport(
        folder=folder,
        id=manifest.id,
        at=manifest.at,
        documents=sum(manifest.documents.values()),
        collections=dict(manifest.documents),
        versions=manifest.versions,
        files=len(manifest.files),
        bytes=sum(digest.bytes for digest in manifest.files.values()),
        note=note,
    )


@contextmanager
def _part_folder(target: Path) -> Iterator[Path]:
    """An empty private folder beside `target`, locked; removed where the block raises."""
    part = target.with_name(f".{target.name}{PART_SUFFIX}")
    create_private_folder(part)
    lock = try_lock(part / _LOCK_FILE)
    if lock is None:
        raise InputError(
            f"Another backup is being written to {target}.", remedy="wait for it, or name another folder."
        )
    try:
        with noted_partial(part):
            _clear(part)
            yield part
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(part)
        raise
    finally:
        lock.release()


def _clear(part: Path) -> None:
    for path in part.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK_FILE:
            path.unlink()


def _write_content(store: Store, part: Path, advance: Advance) -> Manifest:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _write_once(store, part, advance)
        except OperationFailure as error:
            if not collection_files.is_snapshot_lost(error):
                raise
        _clear(part)
        advance(f"the snapshot was lost, attempt {attempt} of {ATTEMPTS}", 0, 0)
    raise collection_files.snapshot_too_old()


def _write_once(store: Store, part: Path, advance: Advance) -> Manifest:
    settings, at = store.settings, server_time(store)
    registry = part / REGISTRY_FOLDER if registry_files.has_registry(settings) else None
    digests: dict[str, FileDigest] = {}
    documents: dict[str, int] = {}
    with collection_files.longer_history(store), ExitStack() as stack:
        with registry_files.registry_lock(settings):
            snapshot = stack.enter_context(collection_files.open_snapshot(store))
            if registry is not None:
                registry_files.copy_database(settings, registry)
        for name, count, digest in snapshot.dump(part / COLLECTIONS_FOLDER, advance):
            documents[name], digests[f"{COLLECTIONS_FOLDER}/{name}.bson"] = count, digest
    versions = None if settings.mlflow_tracking_uri is not None else 0
    if registry is not None:
        artifacts = registry_files.copy_artifacts(settings, registry, advance)
        artifacts[registry_files.DATABASE_FILE] = file_digest(registry / registry_files.DATABASE_FILE)
        digests |= {f"{REGISTRY_FOLDER}/{path}": digest for path, digest in artifacts.items()}
        versions = registry_files.count_versions(registry, settings)
    settings_file = settings.home_dir / SETTINGS_FILE
    if settings_file.is_file():
        digests[SETTINGS_FILE] = copy_file(settings_file, part / SETTINGS_FILE)
    return Manifest(uuid.uuid4().hex, __version__, at, store.database.name, documents, versions, digests)
