"""Promotion and rollback: killed at every step and run again, run at once, and an alias moved by hand."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from retail_core.alerts.raising import newest_alerts
from retail_core.cli.app import app
from retail_core.errors import DataError, IntegrityError
from retail_core.model.served_model import MODEL_FILE
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version, find_champion, load_champion
from retail_core.registry.promotion import Author, promote, rollback
from retail_core.registry.promotion_record import Entry, history, is_confirmed, newest_entry
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from tests.forked_processes import ForkedProcess
from tests.kill_points import KILL_POINTS, change_production, run_until_killed
from tests.serving import register_variant

pytestmark = [pytest.mark.integration, pytest.mark.long]


@dataclass(frozen=True)
class Registry:
    """Versions 1 to 4, and the entries that promoted 1, 2 and 3."""

    settings: Settings
    store: Store
    promoted: list[Entry]


@pytest.fixture(scope="module")
def prepared(registered: Settings) -> Iterator[Registry]:
    for factor in (0.5, 0.6, 0.7):
        register_variant(registered, factor=factor)
    with open_store(registered) as store:
        for version in ("2", "3"):
            promote(store, version, Author("test"))
        yield Registry(registered, store, history(store))


@pytest.fixture
def versions(prepared: Registry) -> Registry:
    """Version 3 in production, and versions 2 and 1 before it."""
    prepared.store.alerts.delete_many({})
    prepared.store.promotions.delete_many({})
    prepared.store.promotions.insert_many(prepared.promoted)
    registry.set_production(prepared.settings, "3")
    return prepared


def assert_chain(store: Store) -> list[Entry]:
    """Each entry follows the one before it, and MLflow's alias the newest."""
    entries = history(store)
    for before, after in itertools.pairwise(entries):
        assert (after["_id"], after["previous"]) == (before["_id"] + 1, before["version"])
    assert registry.production_version(store.settings) == entries[-1]["version"]
    return entries


@pytest.mark.parametrize("kill_point", KILL_POINTS)
@pytest.mark.parametrize(("version", "expected"), [("4", "4"), (None, "2")], ids=["promote", "rollback"])
def test_killed_and_run_again_changes_production_once(
    versions: Registry, version: str | None, expected: str, kill_point: str
) -> None:
    run_until_killed(versions.settings, version, kill_point)
    if kill_point == "after the entry":
        assert champion_version(versions.store) == expected, "a reader completes it"
    author = Author("again")
    change = promote(versions.store, version, author) if version else rollback(versions.store, author)
    entries = assert_chain(versions.store)
    assert [entry["version"] for entry in entries] == ["1", "2", "3", expected]
    assert change.repeated == (kill_point != "before the entry")
    assert entries[-1]["reason"] == ("killed" if change.repeated else "again")
    assert is_confirmed(entries[-1])
    kind = "promoted" if version else "rolled_back"
    assert [alert["_id"] for alert in newest_alerts(versions.store, 9)] == [f"{kind}:4"]


@pytest.mark.parametrize("asked", [(None, None), ("1", "4"), ("4", "4"), (None, "4")])
def test_two_at_once_are_recorded_one_after_the_other(
    versions: Registry, asked: tuple[str | None, str | None]
) -> None:
    processes = [ForkedProcess.start(change_production, versions.settings, version) for version in asked]
    for process in processes:
        process.wait()
    entries = assert_chain(versions.store)[3:]
    kinds = sorted((entry["kind"], entry["version"]) for entry in entries)
    if asked == (None, None):
        assert kinds == [("rollback", "2")]
    elif asked == ("4", "4"):
        assert kinds == [("promote", "4")]
    elif asked == ("1", "4"):
        assert kinds == [("promote", "1"), ("promote", "4")]
    else:
        assert ("promote", "4") in kinds


def test_an_alias_moved_by_hand_is_set_back_with_a_warning(
    versions: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.set_production(versions.settings, "4")
    assert load_champion(versions.store).spec.version == "3"
    assert "named version 4, which is no recorded promotion; it names version 3 again" in caplog.text
    assert registry.production_version(versions.settings) == "3"
    assert len(history(versions.store)) == 3


def test_an_alias_without_any_record_is_adopted(versions: Registry) -> None:
    versions.store.promotions.delete_many({})
    assert find_champion(versions.settings) == "3"
    newest = newest_entry(versions.store)
    assert newest is not None
    assert (newest["_id"], newest["version"], newest["previous"]) == (1, "3", None)
    assert newest["reason"].startswith("adopted")


def test_a_damaged_earlier_version_is_not_rolled_back_to(versions: Registry) -> None:
    model = registry.download(versions.settings, "2") / MODEL_FILE
    intact = model.read_bytes()
    model.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    try:
        with pytest.raises(IntegrityError, match="Version 3 stays in production"):
            rollback(versions.store, Author())
    finally:
        model.write_bytes(intact)
    assert len(assert_chain(versions.store)) == 3


def test_rollback_of_a_stated_version_can_be_repeated(versions: Registry) -> None:
    for repeated in (False, True, True):
        change = rollback(versions.store, Author(), expected="3")
        assert (change.entry["version"], change.repeated) == ("2", repeated)
    with pytest.raises(DataError, match="Version 2 is in production, not version 1"):
        rollback(versions.store, Author(), expected="1")


def test_history_names_who_when_and_why(versions: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = versions.settings
    assert settings.mongodb_uri is not None
    monkeypatch.setenv("RETAIL_HOME", str(settings.home))
    monkeypatch.setenv("RETAIL_MONGODB_DATABASE", settings.mongodb_database)
    monkeypatch.setenv("RETAIL_MONGODB_URI", settings.mongodb_uri.get_secret_value())
    monkeypatch.setenv("LOGNAME", "ana")
    versions.store.promotions.update_many({}, {"$unset": {"actor": 1, "state": 1}})
    back = retail_models("rollback", "--reason", "complaints")
    assert (back["version"], back["repeated"], back["reason"]) == ("2", False, "complaints")
    assert retail_models("promote", "4", "--reason", "approved")["version"] == "4"
    newest, rolled_back, *earlier = retail_models("history")["history"]
    assert (newest["number"], newest["kind"], newest["reason"]) == (5, "promote", "approved")
    assert (rolled_back["previous"], rolled_back["version"]) == ("3", "2")
    assert rolled_back["actor"].startswith("ana@")
    assert [entry["actor"] for entry in earlier] == [None, None, None], "as release 0.1.0 wrote them"


def retail_models(*command: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["models", *command, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content
