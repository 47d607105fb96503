"""Artifact locations of the embedded MLflow, which follow the home when it is copied, moved or restored.

MLflow stores each location as an absolute URI, and resolves a relative one against the working directory. So
that a copy of a home never uses the artifacts of the original, its locations are rewritten when it is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing

from retail_core.errors import DependencyError
from retail_core.file_locks import exclusive_lock
from retail_core.settings import Settings

LOCATION_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("storage_location", "source"),
}
"""The columns of MLflow's tables that hold locations."""

ROOT_SUFFIX = "/mlflow/artifacts"
"""End of the location of every experiment that `open_session` creates."""

_WAIT_SECONDS = 30
_RECORDED_ROOTS = (
    "SELECT DISTINCT artifact_location FROM experiments "
    "WHERE artifact_location LIKE 'file:%' || ? AND artifact_location <> ?"
)


def relocate_registry(settings: Settings) -> int:
    """As `relocate_artifacts`, while no other process has a session of the embedded MLflow."""
    if settings.mlflow_tracking_uri is not None:
        return 0
    with exclusive_lock(settings.home_dir / "mlflow" / "registry.lock"):
        return relocate_artifacts(settings)


def relocate_artifacts(settings: Settings) -> int:
    """Replace the artifact root of another home by that of this one; returns the number of changed values.

    The root of the home that wrote a database is the location of its experiments. The change is one
    transaction, and does nothing where the locations are those of this home. The caller holds the lock of the
    registry.

    Raises:
        DependencyError: the database cannot be read or written.
    """
    database, root = settings.home_dir / "mlflow" / "mlflow.db", settings.artifact_root
    if root is None or not database.exists():
        return 0
    try:
        with closing(sqlite3.connect(database, timeout=_WAIT_SECONDS)) as connection, connection:
            return _replace_roots(connection, root)
    except sqlite3.Error as error:
        raise DependencyError(
            f"MLflow's database {database} cannot be used: {error}.",
            remedy="free disk space and make the file writable, or restore it from a backup.",
        ) from error


def _replace_roots(connection: sqlite3.Connection, root: str) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchall():
        return 0
    recorded = [location for (location,) in connection.execute(_RECORDED_ROOTS, (ROOT_SUFFIX, root))]
    return sum(
        _replace_prefix(connection, table, column, previous, root)
        for previous in recorded
        for table, columns in LOCATION_COLUMNS.items()
        for column in columns
    )


def _replace_prefix(connection: sqlite3.Connection, table: str, column: str, previous: str, root: str) -> int:
    statement = (
        f"UPDATE {table} SET {column} = :root || substr({column}, length(:previous) + 1) "  # nosec B608 # noqa: S608 - constants
        f"WHERE {column} = :previous OR substr({column}, 1, length(:previous) + 1) = :previous || '/'"
    )
    return connection.execute(statement, {"root": root, "previous": previous}).rowcount
