"""Stored content of a newer release is refused in one line that names both, before anything is written."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pymongo import MongoClient

from bentos.mongo_connection import MongoConnection
from retail_core import __version__
from retail_core.errors import DependencyError, InputError
from retail_core.jobs.job_files import CHUNKS, FILES
from retail_core.model.spec import FORMAT, ModelSpec
from retail_core.settings import Settings
from retail_core.sources.parse_notes import ParseNotes
from retail_core.store.lake.table import sync
from retail_core.store.lake.table_specs import TABLES
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.indexes import INDEXES
from retail_core.store.mongo.row_counts import RowCounts
from retail_core.store.mongo.schema_versions import SCHEMA_VERSIONS
from tests.command_line import retail

pytestmark = pytest.mark.integration

NEWER = "9.1.0"


def contents(settings: Settings) -> dict[str, tuple[list[Any], list[str]]]:
    """Documents and indexes of every collection."""
    assert settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]]
    with MongoClient(settings.mongodb_uri.get_secret_value()) as client:
        database = client[settings.mongodb_database]
        return {
            name: (list(database[name].find()), sorted(database[name].index_information()))
            for name in sorted(database.list_collection_names())
        }


def test_every_collection_has_a_version(store: Store) -> None:
    properties = (name for name, value in vars(Store).items() if isinstance(value, property))
    names = {getattr(store, name).name for name in properties} - {"schema_versions"}
    assert names | {FILES, CHUNKS} == SCHEMA_VERSIONS.keys()
    assert INDEXES.keys() <= SCHEMA_VERSIONS.keys()


def test_versions_are_recorded_once(store: Store) -> None:
    recorded = contents(store.settings)["schema_versions"][0]
    assert {record["_id"]: record["version"] for record in recorded} == SCHEMA_VERSIONS
    with open_store(store.settings):
        assert contents(store.settings)["schema_versions"][0] == recorded


def test_a_database_without_versions_gets_them(store: Store) -> None:
    """An interrupted recording is completed, and release 0.1.0 recorded none."""
    store.schema_versions.delete_many({"_id": {"$in": ["events", "users"]}})
    with open_store(store.settings) as reopened:
        assert reopened.schema_versions.count_documents({}) == len(SCHEMA_VERSIONS)


@pytest.mark.parametrize("name", ["events", "ingest_ledger", "restores"])
def test_a_newer_database_is_refused_before_anything_is_written(store: Store, name: str) -> None:
    version = SCHEMA_VERSIONS[name] + 1
    store.schema_versions.update_one({"_id": name}, {"$set": {"version": version, "release": NEWER}})
    store.schema_versions.delete_one({"_id": "context"})
    store.events.drop_indexes()
    before = contents(store.settings)
    assert store.settings.mongodb_uri is not None
    done = retail(
        *("ingest", __file__, "--json"),
        home=store.settings.home_dir,
        RETAIL_MONGODB_URI=store.settings.mongodb_uri.get_secret_value(),
        RETAIL_MONGODB_DATABASE=store.settings.mongodb_database,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"collection {name} of the database {store.database.name} has schema version {version}" in line
    assert f"of release {NEWER}; this is release {__version__}" in line
    assert f"Remedy: install release {NEWER} or newer" in line
    with pytest.raises(InputError, match="schema version"):
        open_store(store.settings, for_restore=True)
    assert contents(store.settings) == before


def test_the_service_does_not_read_a_newer_database(store: Store) -> None:
    store.schema_versions.update_one({"_id": "events"}, {"$set": {"version": 99, "release": NEWER}})

    async def read() -> None:
        connection = MongoConnection(store.settings)
        try:
            await connection.run("events", lambda events: events.find_one({}), 60)
        finally:
            await connection.close()

    with pytest.raises(DependencyError, match=f"schema version 99 of release {NEWER}"):
        asyncio.run(read())


def test_a_newer_lake_is_refused_before_anything_is_written(store: Store) -> None:
    run = ledger.IngestionRun("log.csv", "log.csv")
    window_id = ledger.open_window(store, run, (1, 1)).window_id
    added = {"users": 0, "links": 0}
    ledger.commit_window(store, run, window_id, RowCounts(), last=1, added=added, notes=ParseNotes())
    sync(store)
    root = Path(store.settings.lake_url)
    for spec in TABLES:
        if (root / spec.name).is_dir():
            table = DeltaTable(root / spec.name)
            table.alter.set_table_properties({"retail.format": "99"}, raise_if_not_exists=False)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix != ".lock"}
    with pytest.raises(InputError, match=rf"newer release \(format 99\); this is {__version__}"):
        sync(store)
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix != ".lock"}
    assert after == before


def test_a_newer_model_is_refused(registered: Settings) -> None:
    (file,) = (registered.home_dir / "mlflow").rglob("spec.json")
    content = json.loads(file.read_text())
    assert content["format"] == FORMAT
    assert content["release"] == __version__
    with pytest.raises(InputError, match=f"spec format 99 of release {NEWER}; this is release {__version__}"):
        ModelSpec.from_dict(content | {"format": 99, "release": NEWER})
    without = {name: value for name, value in content.items() if name not in {"format", "release"}}
    assert ModelSpec.from_dict(without).to_dict() == ModelSpec.from_dict(content).to_dict()
