"""Copies of a prepared home and of its database, so that a test module does not train a model of its own."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from retail_core.settings import Settings


def copy_registry(settings: Settings, home: Path) -> None:
    """Copy MLflow's database and artifacts to another home, also while other processes use them."""
    _copy_folder(settings.home_dir / "mlflow", home / "mlflow")


def copy_home(settings: Settings, home: Path) -> Settings:
    """Copy the home to the new folder `home`, and the database to a new one on the same server."""
    _copy_folder(settings.home_dir, home)
    copy = settings.model_copy(update={"home": home, "mongodb_database": new_database_name()})
    assert settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri.get_secret_value())
    with client:
        source = client[settings.mongodb_database]
        for name in source.list_collection_names():
            # The indexes are created when the store is opened.
            source[name].aggregate([{"$out": {"db": copy.mongodb_database, "coll": name}}])
    return copy


def _copy_folder(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("mlflow.db*"))
    for database in source.rglob("mlflow.db"):
        with (
            closing(sqlite3.connect(database)) as original,
            closing(sqlite3.connect(target / database.relative_to(source))) as copy,
        ):
            original.backup(copy)


def new_database_name() -> str:
    return f"retail_{uuid.uuid4().hex[:12]}"


def drop_database(settings: Settings) -> None:
    """Drop the database of these settings, which name a server."""
    assert settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]] = MongoClient(settings.mongodb_uri.get_secret_value())
    with client:
        client.drop_database(settings.mongodb_database)
