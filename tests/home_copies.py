"""Copies of a prepared home and of its database, so that a test module does not train a model of its own."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from retail_core.settings import Settings

ARTIFACT_LOCATIONS: Mapping[str, str] = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""The column of each table of MLflow that holds absolute locations."""


def relocate_artifacts(home: Path, previous_home: Path) -> int:
    """Replace the previous home in MLflow's stored locations by `home`; the number of changed rows."""
    changed = 0
    with closing(sqlite3.connect(home / "mlflow" / "mlflow.db")) as database, database:
        for table, column in ARTIFACT_LOCATIONS.items():
            statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} IS NOT NULL"
            changed += database.execute(statement, (previous_home.as_uri(), home.as_uri())).rowcount
    return changed


def copy_registry(settings: Settings, home: Path) -> None:
    """Copy MLflow's database and artifacts to another home."""
    shutil.copytree(settings.home_dir / "mlflow", home / "mlflow")
    relocate_artifacts(home, settings.home_dir)


def copy_home(settings: Settings, home: Path) -> Settings:
    """Copy the home to the new folder `home`, and the database to a new one on the same server."""
    shutil.copytree(settings.home_dir, home)
    relocate_artifacts(home, settings.home_dir)
    copy = settings.model_copy(update={"home": home, "mongodb_database": new_database_name()})
    assert settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri.get_secret_value())
    with client:
        source = client[settings.mongodb_database]
        for name in source.list_collection_names():
            # The indexes are created when the store is opened.
            source[name].aggregate([{"$out": {"db": copy.mongodb_database, "coll": name}}])
    return copy


def new_database_name() -> str:
    return f"retail_{uuid.uuid4().hex[:12]}"


def drop_database(settings: Settings) -> None:
    """Drop the database of these settings, which name a server."""
    assert settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri.get_secret_value())
    with client:
        client.drop_database(settings.mongodb_database)
