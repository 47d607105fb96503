"""This release reads a home that release 0.1.0 wrote (see `tests/fixtures/make_home_0_1_0.py`)."""

from __future__ import annotations

import csv
import json
import os
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from typer.testing import CliRunner

from retail_core.cli.app import app
from retail_core.model.boosting import BoostedTrees
from retail_core.model.linear import LogisticRanker
from retail_core.registry.trained_on import versions_trained_on
from retail_core.registry.versions import load_version
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store
from tests.fixtures.make_home_0_1_0 import ERASED, READS, SETTINGS

pytestmark = [pytest.mark.integration, pytest.mark.long]

ARCHIVE = Path(__file__).resolve().parents[1] / "fixtures" / "home_0_1_0.tar.xz"
VERSIONS = ("1", "2", "3", "4")
FOREIGN = ("RETAIL_", "MLFLOW_", "PREFECT_", "BENTOML_")
CLOCK = {"seconds", "at"}
GENERATED_TEXT = {"evidence", "reason", "population"}
"""Sentences that a command composes anew, which a later release may word differently."""

TRIGGERS = {"triggers", "status"}
"""Checks of later rules; their names are compared."""

PRINT_STORED_TEXT = {name for name in READS if name.startswith(("models_", "quarantine_", "user_"))}


@dataclass(frozen=True)
class UpgradedHome:
    """The unpacked archive, and what this release's commands printed on it, by name in `READS`."""

    folder: Path
    printed: Mapping[str, dict[str, Any]]
    loaded: Mapping[str, set[type]]


@pytest.fixture(scope="module")
def upgraded(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpgradedHome]:
    """Run all commands of `READS`, in their order, on the restored home."""
    folder = tmp_path_factory.mktemp("upgrade")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    database = f"upgrade_{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch, MongoClient(mongod_uri) as client:
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        home_variables = {
            "RETAIL_HOME": str(folder / "home"),
            "RETAIL_MONGODB_URI": mongod_uri,
            "RETAIL_MONGODB_DATABASE": database,
        }
        for name, value in (SETTINGS | home_variables).items():
            patch.setenv(name, value)
        patch.chdir(folder)
        restore_database(folder / "database", client, database)
        loaded = {version: ranker_types(version) for version in VERSIONS}
        printed = {name: retail(command) for name, command in READS.items()}
        yield UpgradedHome(folder, printed, loaded)
        client.drop_database(database)


def restore_database(folder: Path, client: MongoClient[Any], database: str) -> None:
    as_written = CodecOptions(document_class=RawBSONDocument)
    for file in sorted(folder.glob("*.bson")):
        client[database][file.stem].insert_many(bson.decode_all(file.read_bytes(), as_written))
    # MongoDB drops entries of the prediction log after 30 days.
    client[database]["prediction_log"].update_many({}, {"$set": {"at": datetime.now(UTC)}})


def ranker_types(version: str) -> set[type]:
    """Load the version, which runs its self-test, and tell which classes its rankers are of."""
    return {type(ranker) for ranker in load_version(load_settings(), version).estimator.rankers.values()}


def retail(command: str) -> dict[str, Any]:
    run = CliRunner().invoke(app, [*command.split(), "--json"], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    (line,) = run.stdout.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


def assert_repeats(actual: Any, stored: Any, ignored: set[str], place: str = "") -> None:
    """Everything stored is there and equal; a later release may add keys."""
    if isinstance(stored, dict):
        assert isinstance(actual, dict), place
        assert stored.keys() <= actual.keys(), place
        for key in stored.keys() - ignored:
            assert_repeats(actual[key], stored[key], ignored, f"{place}.{key}")
    elif isinstance(stored, list):
        assert len(actual) == len(stored), place
        for number, (entry, expected) in enumerate(zip(actual, stored, strict=True)):
            assert_repeats(entry, expected, ignored, f"{place}[{number}]")
    else:
        assert actual == stored, place


@pytest.mark.parametrize("name", READS)
def test_command_prints_what_release_0_1_0_printed(upgraded: UpgradedHome, name: str) -> None:
    stored = json.loads((upgraded.folder / "expected" / f"{name}.json").read_text())
    ignored = CLOCK if name in PRINT_STORED_TEXT else CLOCK | GENERATED_TEXT | TRIGGERS
    assert_repeats(upgraded.printed[name], stored, ignored)


def test_every_trigger_of_release_0_1_0_is_still_checked(upgraded: UpgradedHome) -> None:
    """On a champion, a record of predictions and trigger checks that release 0.1.0 has written."""
    stored = json.loads((upgraded.folder / "expected" / "monitor.json").read_text())
    now, then = (
        {check["name"] for check in printed["triggers"]} for printed in (upgraded.printed["monitor"], stored)
    )
    assert then == {"new_data", "performance", "drift"} < now


@pytest.mark.parametrize("name", ["scores_1.csv", "scores_2.csv", "scores_3.csv"])
def test_scored_csv_is_equal_but_for_reasons(upgraded: UpgradedHome, name: str) -> None:
    """Release 0.1.0 also gave missing values as reasons."""
    scores, expected = (_scores(path / name) for path in (upgraded.folder, upgraded.folder / "expected"))
    assert scores == expected


def _scores(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0][-1] == "reasons"
    return [row[:-1] for row in rows]


def test_exported_documents_of_a_user_are_equal(upgraded: UpgradedHome) -> None:
    assert exported(upgraded.folder / "user.jsonl") == exported(upgraded.folder / "expected" / "user.jsonl")


def exported(file: Path) -> list[str]:
    """The documents, sorted; without the time that `restore_database` changes."""
    documents = [json.loads(line) for line in file.read_text().splitlines()]
    for document in documents:
        if document["collection"] == "prediction_log":
            del document["at"]
    return sorted(json.dumps(document, sort_keys=True) for document in documents)


def test_every_family_loads_and_passes_its_self_test(upgraded: UpgradedHome) -> None:
    linear, forest, boosted, recalibrated = (upgraded.loaded[version] for version in VERSIONS)
    assert linear == {LogisticRanker}
    assert {kind.__name__ for kind in forest} == {"RandomForestClassifier"}
    assert boosted == recalibrated == {BoostedTrees}


def test_event_ids_are_derived_as_before(upgraded: UpgradedHome) -> None:
    """The rows of an ingested file in another file are all duplicates."""
    for name, options in (("log.csv", ""), ("shop.csv", " --mapping files/shop.yaml")):
        header, *lines = (upgraded.folder / "files" / name).read_text("latin-1").splitlines()
        lines = [line for line in lines if ERASED not in line][:2_000]
        (upgraded.folder / name).write_text("\n".join([header, *lines]) + "\n", "latin-1")
        report = retail(f"ingest {name}{options}")
        assert (report["events_inserted"], report["duplicates"]) == (0, len(lines))


def test_files_of_release_0_1_0_are_not_stored_twice(upgraded: UpgradedHome) -> None:
    """The same files are skipped; of longer copies only the new lines are stored."""
    for name, options in (("log.csv", ""), ("shop.csv", " --mapping files/shop.yaml")):
        repeated = retail(f"ingest files/{name}{options}")
        assert (repeated["events_inserted"], repeated["skipped_files"]) == (0, 1)
        header, *lines = (upgraded.folder / "files" / name).read_text("latin-1").splitlines()
        lines = [line for line in lines if ERASED not in line]
        added = [new_line(header, lines[-1], number) for number in range(3)]
        (upgraded.folder / name).write_text("\n".join([header, *lines, *added]) + "\n", "latin-1")
        report = retail(f"ingest {name}{options}")
        assert (report["rows_read"], report["events_inserted"]) == (len(lines) + 3, 3)
        assert report["duplicates"] == len(lines)
    with open_store(load_settings()) as store:
        assert store.ledger.count_documents({"kind": "file", "identity_rule": {"$exists": False}}) == 3
        copies = store.ledger.distinct("identity_rule", {"path": {"$in": ["log.csv", "shop.csv"]}})
        assert copies == ["row", "values"]


def new_line(header: str, line: str, number: int) -> str:
    """`line` of a user who is not in the file."""
    delimiter = ";" if ";" in header else ","
    names, cells = header.split(delimiter), line.split(delimiter)
    user = names.index("kunde" if "kunde" in names else "user_id")
    cells[user] = f"new-user-{number}"
    if "event_id" in names:
        cells[names.index("event_id")] = f"new-event-{number}"
    return delimiter.join(cells)


def test_versions_trained_with_a_file_are_named(upgraded: UpgradedHome) -> None:
    settings, first_event = load_settings(), datetime(2025, 1, 2, tzinfo=UTC)
    with open_store(settings) as store:
        file = store.ledger.find_one({"kind": "file", "path": "files/log.csv"}) or {}
    ingested_at = file["started_at"]
    newest_first = sorted(VERSIONS, reverse=True)
    assert versions_trained_on(settings, ingested_at=ingested_at, first_event=first_event) == newest_first
    later = datetime(2025, 2, 4, tzinfo=UTC)
    assert versions_trained_on(settings, ingested_at=ingested_at, first_event=later) == ["4", "3"]
    assert versions_trained_on(settings, ingested_at=datetime.now(UTC), first_event=first_event) == []
