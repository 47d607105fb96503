"""The embedded registry in a backup: MLflow's SQLite file, and the artifacts that it refers to."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

from retail_core.backup.backup_manifest import REGISTRY_FOLDER, Advance, FileDigest, Manifest, copy_file
from retail_core.errors import DependencyError, IntegrityError
from retail_core.file_locks import create_private_folder, exclusive_lock
from retail_core.registry.artifact_locations import relocate_artifacts, relocate_registry
from retail_core.settings import Settings

DATABASE_FILE, ARTIFACTS_FOLDER = "mlflow.db", "artifacts"
_WAIT_SECONDS = 30
_VERSIONS = "SELECT name, version, coalesce(storage_location, source) FROM model_versions"


def has_registry(settings: Settings) -> bool:
    """Whether the home has an embedded registry."""
    return settings.mlflow_tracking_uri is None and _database(settings).exists()


@contextmanager
def registry_lock(settings: Settings) -> Iterator[None]:
    """No other process registers or promotes a version in the embedded registry during the block."""
    if not has_registry(settings):
        yield
        return
    with exclusive_lock(settings.home_dir / "mlflow" / "registry.lock"):
        relocate_artifacts(settings)
        yield


def copy_database(settings: Settings, folder: Path) -> None:
    """Copy MLflow's database in one consistent state, also while its server runs, to `folder`.

    Raises:
        DependencyError: it cannot be read.
    """
    folder.mkdir()
    try:
        with (
            closing(sqlite3.connect(_database(settings), timeout=_WAIT_SECONDS)) as source,
            closing(sqlite3.connect(folder / DATABASE_FILE)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise DependencyError(
            f"MLflow's database {_database(settings)} cannot be copied: {error}.",
            remedy="free disk space, and run the command again.",
        ) from error


def copy_artifacts(settings: Settings, folder: Path, advance: Advance) -> dict[str, FileDigest]:
    """Copy the artifacts after the database, whose versions had theirs before; digests by path.

    MLflow writes artifacts before it registers them and never changes them, so the copy has at least those of
    every version of the copied database. A file that disappears meanwhile was a temporary one.
    """
    root, digests = settings.home_dir / "mlflow" / ARTIFACTS_FOLDER, {}
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for number, file in enumerate(files, 1):
        path = Path(ARTIFACTS_FOLDER, file.relative_to(root))
        try:
            digests[path.as_posix()] = copy_file(file, folder / path)
        except FileNotFoundError:
            continue
        advance("artifacts", number, len(files))
    return digests


def count_versions(folder: Path, settings: Settings) -> int:
    """Number of versions in the copied database.

    Raises:
        IntegrityError: the copied artifacts of a version are missing.
    """
    root = settings.home_dir / "mlflow" / ARTIFACTS_FOLDER
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as database:
        has_versions = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_versions'")
        versions = database.execute(_VERSIONS).fetchall() if has_versions.fetchall() else []
    for name, version, location in versions:
        path = Path(unquote(urlparse(str(location)).path))
        if path.is_relative_to(root) and not any(
            (folder / ARTIFACTS_FOLDER / path.relative_to(root)).glob("*")
        ):
            raise IntegrityError(
                f"The artifacts of version {version} of {name} are missing in {path}.",
                remedy="restore them, or delete this version in MLflow, then run the command again.",
            )
    return len(versions)


def restore_registry(settings: Settings, backup: Path, manifest: Manifest, advance: Advance) -> None:
    """Copy database and artifacts of a backup to the home, with the locations of this home."""
    target = settings.home_dir / "mlflow"
    shutil.rmtree(target, ignore_errors=True)
    create_private_folder(target)
    names = [name for name in manifest.files if name.startswith(f"{REGISTRY_FOLDER}/")]
    for number, name in enumerate(names, 1):
        copy_file(backup / name, settings.home_dir / name)
        advance("registry", number, len(names))
    relocate_registry(settings)


def _database(settings: Settings) -> Path:
    return settings.home_dir / "mlflow" / DATABASE_FILE
