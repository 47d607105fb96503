"""A damaged ledger, model, registry or promotion record is one line with a remedy in every command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from bentos.import_model import main as import_model
from retail_core import sources
from retail_core.ingest import ingest
from retail_core.registry import artifact_locations
from retail_core.settings import Settings
from retail_core.stack import doctor
from retail_core.stack.services import variables
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo.connection import Document, open_store
from tests.command_line import ROOT, command_environment, retail
from tests.home_copies import copy_home, drop_database

pytestmark = [pytest.mark.integration, pytest.mark.long]

AT = datetime(2025, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Home:
    """A home with events of a week and a registered model in production."""

    settings: Settings

    @property
    def folder(self) -> Path:
        return self.settings.home_dir

    @contextmanager
    def collection(self, name: str) -> Iterator[Collection[Document]]:
        assert self.settings.mongodb_uri is not None
        client: MongoClient[Document] = MongoClient(self.settings.mongodb_uri.get_secret_value())
        with client:
            yield client[self.settings.mongodb_database][name]

    @property
    def registry(self) -> Path:
        return self.folder / "mlflow" / "mlflow.db"

    def model_file(self, name: str) -> Path:
        """A file of the served model; the evaluated one is among the run's artifacts."""
        (path,) = (path for path in (self.folder / "mlflow").rglob(name) if "models" in path.parts)
        return path


@pytest.fixture(scope="module")
def with_events(registered: Settings) -> Settings:
    log = registered.home_dir / "log.csv"
    rows = [
        f"u{user},2025-01-0{day}T1{user % 10}:00:00Z,{kind}"
        for day in range(1, 9)
        for user in range(30)
        for kind in ("view_item", "add_to_cart", *(["purchase"] if user % 5 == day % 5 else []))
    ]
    log.write_text("\n".join(["user_id,event_time,event_type", *rows]) + "\n")
    with open_store(registered) as store:
        ingest(store, [log], sources.get_preset("canonical"), at=AT)
    return registered


@pytest.fixture
def home(with_events: Settings, tmp_path: Path) -> Iterator[Home]:
    copy = copy_home(with_events, tmp_path / "home")
    yield Home(copy)
    drop_database(copy)


def flip(path: Path, position: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 4
    path.write_bytes(content)


def lower_threshold(home: Home) -> None:
    path = home.model_file("spec.json")
    content = json.loads(path.read_text())
    content["thresholds"]["daily"]["contact"] /= 2
    path.write_text(json.dumps(content, indent=1))


def change_ledger(query: Document, update: Document) -> Callable[[Home], None]:
    def change(home: Home) -> None:
        with home.collection("ingest_ledger") as ledger:
            assert ledger.update_one({"kind": "window"} | query, update).matched_count

    return change


def delete_window(home: Home) -> None:
    with home.collection("ingest_ledger") as ledger:
        assert ledger.delete_one({"kind": "window"}).deleted_count


def copy_events(home: Home) -> None:
    """Events that someone else has written with the id of a window."""
    with home.collection("events") as events:
        events.insert_one((events.find_one() or {}) | {"_id": "f" * 32})


def put_promotion(**fields: object) -> Callable[[Home], None]:
    entry = {"_id": 99, "kind": "promote", "version": "1", "previous": None, "at": AT}

    def put(home: Home) -> None:
        with home.collection("promotions") as promotions:
            promotions.insert_one({k: v for k, v in (entry | fields).items() if v != "absent"})

    return put


def zero_database(home: Home) -> None:
    """All but the header, which says that the file is a database."""
    path = home.registry
    path.write_bytes(path.read_bytes()[:4096] + b"\0" * (path.stat().st_size - 4096))


def damage_lake(home: Home) -> None:
    with open_store(home.settings) as store:
        sync(store)
    flip(Path(Lake(home.settings.lake_url).files()[0]))


def drop_table(home: Home) -> None:
    with sqlite3.connect(home.registry) as connection:
        connection.execute("DROP TABLE model_versions")


LEDGER: dict[str, tuple[Callable[[Home], object], str]] = {
    "window missing": (delete_window, "not in the ingestion ledger"),
    "window's id is text": (change_ledger({}, {"$set": {"window_id": "1"}}), "not in the ingestion ledger"),
    "window's state unknown": (change_ledger({}, {"$set": {"state": "?"}}), "not in the ingestion ledger"),
    "counts missing": (change_ledger({}, {"$unset": {"counts": 1}}), "counts is None"),
    "counts of another kind": (change_ledger({}, {"$set": {"counts": [1]}}), "counts is [1]"),
    "counts with text": (change_ledger({}, {"$set": {"counts.inserted": "x"}}), "counts is"),
    "more events than counted": (copy_events, "events, and"),
}
SPEC: dict[str, tuple[Callable[[Home], object], str]] = {
    "spec truncated": (lambda home: os.truncate(home.model_file("spec.json"), 99), "spec.json"),
    "spec with another threshold": (lower_threshold, "spec.json"),
    "spec without a key": (lambda home: home.model_file("spec.json").write_text("{}"), "spec.json"),
    "spec deleted": (lambda home: home.model_file("spec.json").unlink(), "spec.json"),
}
MODEL: dict[str, tuple[Callable[[Home], object], str]] = {
    "model truncated": (lambda home: os.truncate(home.model_file("model.skops"), 5_000), "model.skops"),
    "model bit": (lambda home: flip(home.model_file("model.skops")), "model.skops"),
    "model deleted": (lambda home: home.model_file("model.skops").unlink(), "model.skops"),
    "fast form bit": (lambda home: flip(home.model_file("daily.onnx")), "daily.onnx"),
    "fast form deleted": (lambda home: home.model_file("daily.onnx").unlink(), "daily.onnx"),
    "artifacts deleted": (lambda home: shutil.rmtree(home.folder / "mlflow" / "artifacts"), "cannot be read"),
}
DATABASE: dict[str, tuple[Callable[[Home], object], str]] = {
    "no database": (lambda home: home.registry.write_bytes(b"x" * 9_999), "mlflow.db"),
    "database zero-filled": (zero_database, "mlflow.db"),
    "table missing": (drop_table, "mlflow.db"),
    "folder in its place": (lambda home: [home.registry.unlink(), home.registry.mkdir()], "mlflow.db"),
}
PROMOTIONS: dict[str, tuple[Callable[[Home], object], str]] = {
    "entry without a version": (put_promotion(version="absent"), "version is None"),
    "entry with a number": (put_promotion(version=3), "version is 3"),
    "entry without a time": (put_promotion(at="soon"), "at is 'soon'"),
    "entry with a text as key": (put_promotion(_id="x"), "'x' of the promotion record"),
}

LAKE: dict[str, tuple[Callable[[Home], object], str]] = {
    "file of the lake bit": (damage_lake, "has other content than was committed"),
}

SCORE = ("score", "--out", "scores.csv")
AUDIENCE = ("audience", "--budget", "5", "--out", "audience.csv")
TRAIN, MONITOR = ("train",), ("monitor",)
IMPORT = ("import",)

REBUILD, SHOW, ROLLBACK = ("lake", "rebuild"), ("models", "show", "1"), ("models", "rollback")
LIST, REPRODUCE = ("models", "list"), ("models", "reproduce", "1")
DELETE = ("user", "delete", "u1", "--yes")
OF_REGISTRY = (TRAIN, AUDIENCE, MONITOR, SHOW, LIST, ROLLBACK, REPRODUCE, IMPORT)

PAIRS = [
    *((kind, SCORE) for kind in LEDGER | SPEC | MODEL | DATABASE),
    *(("window missing", command) for command in (TRAIN, AUDIENCE, MONITOR, REBUILD)),
    *(("counts missing", command) for command in (TRAIN, MONITOR, REBUILD)),
    *(("spec truncated", command) for command in (SHOW, IMPORT, MONITOR)),
    *(("spec with another threshold", command) for command in (SHOW, IMPORT, AUDIENCE)),
    *(("model bit", command) for command in (IMPORT, MONITOR)),
    *(("no database", command) for command in OF_REGISTRY),
    ("file of the lake bit", DELETE),
    *((kind, TRAIN) for kind in PROMOTIONS),
    *((kind, ROLLBACK) for kind in ("entry with a number", "entry without a time")),
]


def run_damaged(home: Home, command: tuple[str, ...], folder: Path) -> str:
    """The one line that the command ends with."""
    set_variables = {name: value for name, value in variables(home.settings).items() if value is not None}
    if command == IMPORT:
        errors = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stderr(errors):
            for name, value in (set_variables | {"BENTOML_HOME": str(folder / "bento")}).items():
                patch.setenv(name, value)
            code, text = import_model([]), errors.getvalue()
    else:
        with contextlib.chdir(folder):
            done = retail(*command, "--json", home=home.folder, **set_variables)
        code, text = done.returncode, done.stderr
        assert set(json.loads(done.stdout)) == {"error", "remedy"}
    assert code in {1, 3}, text
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if "Remedy: " in line]
    return line


@pytest.mark.parametrize(
    ("kind", "command"), PAIRS, ids=lambda value: value if isinstance(value, str) else "-".join(value[:2])
)
def test_a_damaged_record_is_one_line_with_a_remedy(
    home: Home, kind: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    damage, part = (LEDGER | SPEC | MODEL | DATABASE | PROMOTIONS | LAKE)[kind]
    damage(home)
    assert part in run_damaged(home, command, tmp_path)


@pytest.mark.parametrize("command", [*OF_REGISTRY, SCORE], ids="-".join)
def test_a_locked_registry_is_one_line(
    home: Home, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(artifact_locations, "_WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(home.registry)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in run_damaged(home, command, tmp_path)


LOAD_TWICE = """
from pathlib import Path
from bentos.import_model import import_production
from bentos.model_loader import load_model
from bentos.model_store import stored_model
from retail_core.errors import IntegrityError
from retail_core.settings import load_settings

settings = load_settings()
imported = import_production(settings)
print(load_model(settings, imported.tag).served.spec.version)
(spec,) = Path(stored_model(imported.tag).path).rglob("spec.json")
spec.write_text(spec.read_text().replace("contact", "contacts", 1))
try:
    load_model(settings, imported.tag)
except IntegrityError as error:
    print(error.message)
"""


def test_the_service_loads_an_imported_model_and_refuses_it_once_a_file_has_changed(
    home: Home, tmp_path: Path
) -> None:
    set_variables = {name: value for name, value in variables(home.settings).items() if value is not None}
    environment = command_environment(home.folder, set_variables | {"BENTOML_HOME": str(tmp_path / "bento")})
    command = [sys.executable, "-c", LOAD_TWICE]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    version, refusal = done.stdout.splitlines() or ["", done.stderr]
    assert version == "1"
    assert "spec.json is not the file that was registered" in refusal


def test_the_deep_doctor_finds_nothing_in_an_intact_home_and_each_damage(home: Home) -> None:
    with open_store(home.settings) as store:
        sync(store)
    names = ["home files", "mlflow database", "model versions", "promotion record", "collections", "ledger"]
    progress: list[str] = []
    findings = doctor(home.settings, deep=True, progress=progress.append)
    assert [check for check in findings if check["name"] in progress and check["state"] != "ok"] == []
    assert progress == [*names, "lake files", "lake rows"]
    lower_threshold(home)
    copy_events(home)
    put_promotion(version="7")(home)
    Path(Lake(home.settings.lake_url).files()[0]).unlink()
    failed = [check for check in doctor(home.settings, deep=True) if check["state"] == "fail"]
    expected = {"model versions", "promotion record", "ledger", "lake files", "lake rows"}
    assert expected <= {check["name"] for check in failed}
    assert all(check["remedy"] and "\n" not in check["what"] for check in failed)


def test_the_deep_doctor_compares_the_rows_of_the_lake(home: Home) -> None:
    first_day = {"event_time": {"$lt": datetime(2025, 1, 2, tzinfo=UTC)}}
    with open_store(home.settings) as store:
        sync(store)
        store.events.update_one(first_day, {"$set": {"price_minor": 3}})
        event = store.events.find_one({"event_time": {"$gte": datetime(2025, 1, 8, tzinfo=UTC)}})
        assert event is not None
        store.events.delete_one({"_id": event["_id"]})
        rows = store.events.count_documents(first_day)
    whats = {check["what"] for check in doctor(home.settings, deep=True) if check["name"] == "lake rows"}
    assert f"events of 2025-01-01: the {rows} rows of the lake differ from those of MongoDB" in whats
    assert any(what.startswith("events of 2025-01-08: ") for what in whats)
