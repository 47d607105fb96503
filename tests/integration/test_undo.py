"""Undo of ingested files in a real MongoDB: counts, shared events, kills, the lake, and files read twice."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from unittest.mock import Mock

import pytest
from pymongo.errors import AutoReconnect
from typer.testing import CliRunner

from retail_core import sources
from retail_core.errors import DependencyError, InputError
from retail_core.ingest import ingest, replay, store_events, undo
from retail_core.ingest.undo import UndoReport
from retail_core.sources import Source
from retail_core.sources.parse_notes import ParseNotes
from retail_core.store.lake.table import Lake, rebuild, sync
from retail_core.store.mongo import file_removal, ledger
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ingested_files import find_file
from retail_core.store.mongo.ledger import IngestionRun
from retail_core.store.mongo.row_counts import RowCounts
from tests.forked_processes import ForkedProcess
from tests.killed_programs import undo_file

pytestmark = [pytest.mark.integration, pytest.mark.long]

AT = datetime(2025, 3, 1, tzinfo=UTC)
HEADER = "event_id,user_id,event_time,event_type,item_id,price\n"
CANONICAL = sources.get_preset("canonical")
BROKEN = ",u0,never,view_item,,\n"
HIDDEN = {"window_id": 0}


def _row(user: int, key: str = "", kind: str = "view_item", day: int | None = None) -> str:
    minute = f"{user // 60 % 24:02d}:{user % 60:02d}"
    return f"{key},u{user},2025-01-{day or user % 28 + 1:02d}T{minute}:00Z,{kind},i{user},1.50\n"


def _file(tmp_path: Path, rows: list[str], name: str) -> Path:
    path = tmp_path / name
    path.write_text(HEADER + "".join(rows))
    return path


def _id(store: Store, path: Path) -> str:
    return str(store.ledger.find_one({"kind": "file", "file": path.name}, {"_id": 1})["_id"])  # type: ignore[index]


def _undo(store: Store, path: Path) -> UndoReport:
    return undo(store, _id(store, path), at=AT)


def _content(store: Store) -> dict[str, list[Document]]:
    """Everything stored, without the ids of windows and the records of undos."""
    names = {"events": {}, "users": {}, "quarantine": {"also": 0, "_id": 0}}
    content = {
        name: sorted(store.database[name].find({}, HIDDEN | hidden if hidden else HIDDEN), key=str)
        for name, hidden in names.items()
    }
    files = store.ledger.find({"kind": "file"}, {"counts": 1, "state": 1, "file": 1, "lease": 1})
    return content | {"files": sorted(files, key=str)}


def _assert_consistent(store: Store) -> None:
    """Counts of windows and files add up and match what is stored; nothing is left of what was undone."""
    windows = {window["window_id"]: window for window in store.ledger.find({"kind": "window"})}
    for window_id, window in windows.items():
        counts = window["counts"]
        assert window["state"] == "committed"
        assert counts["rows_read"] == counts["inserted"] + counts["duplicates"] + counts["quarantined"]
        assert counts["inserted"] == store.events.count_documents({"window_id": window_id})
        assert window["users"] == store.users.count_documents({"window_id": window_id})
    for file in store.ledger.find({"kind": "file"}):
        inserted = sum(w["counts"]["inserted"] for w in windows.values() if w["file_id"] == file["_id"])
        assert file["counts"]["inserted"] == inserted
    assert set(store.events.distinct("window_id")) <= set(windows)
    assert set(store.event_duplicates.distinct("_id")) <= set(windows)


def _lake_ids(store: Store) -> set[str]:
    import pyarrow.parquet as pq

    files = Lake(store.settings.lake_url).files()
    return {key for file in files for key in pq.read_table(file, partitioning=None)["event_id"].to_pylist()}


def _event_ids(store: Store) -> set[str]:
    return set(store.events.distinct("_id"))


@pytest.mark.parametrize("column", ["user_id", "event_time"])
def test_a_file_is_undone_only_if_it_can_be_read_otherwise(store: Store, tmp_path: Path, column: str) -> None:
    path = _file(tmp_path, [_row(user) for user in range(100, 160)], "log.csv")
    ingest(store, [path], CANONICAL, at=AT)
    before = _content(store)
    changed = "absent" if column == "user_id" else "item_id"
    unfit = replace(CANONICAL, columns={**CANONICAL.columns, column: (changed,)})
    with pytest.raises(InputError, match=r"has no column 'absent'|nothing was undone"):
        ingest(store, [path], unfit, at=AT, replace_earlier=True)
    assert _content(store) == before
    assert _undo(store, path).events_removed == 60


def test_a_run_that_read_nothing_is_no_candidate_for_an_undo(store: Store, tmp_path: Path) -> None:
    path = _file(tmp_path, [_row(user) for user in range(100, 160)], "log.csv")
    unfit = replace(CANONICAL, columns={**CANONICAL.columns, "user_id": ("absent",)})
    with pytest.raises(InputError, match="has no column 'absent'"):
        ingest(store, [path], unfit, at=AT)
    ingest(store, [path], CANONICAL, at=AT)
    assert store.ledger.count_documents({"kind": "file"}) == 2
    file = find_file(store, path.name, None)
    assert file is not None
    assert undo(store, file["_id"], at=AT).events_removed == 60


def test_an_undone_file_leaves_nothing_and_can_be_ingested_again(store: Store, tmp_path: Path) -> None:
    other = _file(tmp_path, [_row(user) for user in range(1, 50)], "other.csv")
    ingest(store, [other], CANONICAL, at=AT)
    before = _content(store)
    path = _file(tmp_path, [BROKEN, *(_row(user) for user in range(100, 160))], "log.csv")
    ingest(store, [path], CANONICAL, at=AT)
    sync(store)
    file_id = _id(store, path)
    report = undo(store, file_id, at=AT)
    assert (report.events, report.events_removed, report.events_kept) == (60, 60, 0)
    assert (report.quarantined, report.quarantined_removed, report.windows) == (1, 1, 1)
    assert (report.file, report.source, report.already_undone) == ("log.csv", "canonical", False)
    assert report.first_event is not None
    assert _content(store) == before
    _assert_consistent(store)
    assert sync(store).rows == 49
    assert _lake_ids(store) == _event_ids(store)
    repeated = undo(store, file_id, at=AT)
    assert (repeated.already_undone, repeated.events, repeated.file) == (True, 0, "log.csv")
    assert ingest(store, [path], CANONICAL, at=AT).events_inserted == 60
    assert sync(store).rows == 109
    lake = Lake(store.settings.lake_url)
    state = lake.state(hashed=True)
    rebuild(store)
    assert lake.state(hashed=True) == state


def test_an_event_that_another_file_brought_stays(store: Store, tmp_path: Path) -> None:
    first = _file(tmp_path, [BROKEN, *(_row(user) for user in range(1, 31))], "first.csv")
    second = _file(tmp_path, [BROKEN, *(_row(user) for user in range(21, 41))], "second.csv")
    third = _file(tmp_path, [_row(user) for user in range(30, 32)], "third.csv")
    ingest(store, [first, second, third], CANONICAL, at=AT)
    sync(store)
    report = _undo(store, first)
    assert (report.events, report.events_removed, report.events_kept) == (30, 20, 10)
    assert (report.quarantined, report.quarantined_removed, report.quarantined_kept) == (1, 0, 1)
    _assert_consistent(store)
    assert _content(store) == _fresh_content(store, [second, third])
    assert sync(store).rows == 20
    assert _lake_ids(store) == _event_ids(store)
    assert _undo(store, second).events_kept == 2
    assert _content(store) == _fresh_content(store, [third])
    _assert_consistent(store)


def _fresh_content(store: Store, paths: list[Path]) -> dict[str, list[Document]]:
    """The content of a new database that only ingested `paths`."""
    settings = store.settings.model_copy(update={"mongodb_database": f"{store.database.name}_fresh"})
    fresh = Store(settings, store.client, store.client[settings.mongodb_database])
    store.client.drop_database(settings.mongodb_database)
    fresh.quarantine.create_index("row", unique=True)
    ingest(fresh, paths, CANONICAL, at=AT)
    content = _content(fresh)
    store.client.drop_database(settings.mongodb_database)
    return content


def test_a_posted_event_stays_and_later_windows_get_new_ids(store: Store, tmp_path: Path) -> None:
    path = _file(tmp_path, [_row(1, "a"), _row(2, "b")], "log.csv")
    ingest(store, [path], CANONICAL, at=AT)
    names = HEADER.strip().split(",")
    posted = [dict(zip(names, _row(1, "a").strip().split(","), strict=True))]
    store_events(store, posted, CANONICAL)
    newest = max(store.ledger.distinct("window_id", {"kind": "window"}))
    assert _undo(store, path).events_kept == 1
    assert store.events.distinct("user_id") == ["u1"]
    store_events(store, posted, CANONICAL)
    assert max(store.ledger.distinct("window_id", {"kind": "window"})) > newest
    _assert_consistent(store)


def test_a_request_that_failed_keeps_no_event_and_cannot_be_committed_later(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, [_row(user) for user in range(100, 160)], "log.csv")
    ingest(store, [path], CANONICAL, at=AT)
    (posted,) = csv.DictReader([HEADER, _row(120)])
    with monkeypatch.context() as failing:
        failing.setattr(ledger, "commit_window", Mock(side_effect=AutoReconnect("lost")))
        with pytest.raises(AutoReconnect):
            store_events(store, [posted], CANONICAL)
    monkeypatch.setattr(import_module("retail_core.ingest.undo"), "WAIT_SECONDS", 0.0)
    assert _undo(store, path).events_removed == 60
    assert not _event_ids(store)
    window = store.ledger.find_one({"kind": "window"})
    assert window is not None
    run = IngestionRun(window["file_id"], "api")
    with pytest.raises(DependencyError, match="closed by an undo"):
        ledger.commit_window(
            store, run, window["window_id"], RowCounts(), last=1, added={}, notes=ParseNotes()
        )
    assert store_events(store, [posted], CANONICAL).counts.inserted == 1
    sync(store)
    assert _lake_ids(store) == _event_ids(store)


def test_user_attributes_that_another_file_brought_stay(store: Store, tmp_path: Path) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "name: shop\ncolumns: {user_id: user, event_time: at, event_type: kind}\nattributes: {age: number}\n"
    )
    shop = sources.from_mapping(mapping)
    texts = {
        "a.csv": "u1,2025-01-01,view_item,30\nu2,2025-01-01,view_item,40\n",
        "b.csv": "u1,2025-01-01,view_item,30\n",
    }
    paths = []
    for name, text in texts.items():
        paths.append(tmp_path / name)
        paths[-1].write_text("user,at,kind,age\n" + text)
    ingest(store, paths, shop, at=AT)
    report = _undo(store, paths[0])
    assert (report.users, report.users_removed, report.users_kept) == (2, 1, 1)
    assert store.users.distinct("user_id") == ["u1"]
    _assert_consistent(store)


def test_replayed_rows_go_with_their_file(store: Store, tmp_path: Path) -> None:
    row = "u{user},{at},view_item\n"
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    head = "user_id,event_time,event_type\n"
    first.write_text(head + row.format(user=1, at="01.02.2025") + row.format(user=2, at="02.02.2025"))
    second.write_text(head + row.format(user=2, at="02.02.2025") + row.format(user=3, at="03.02.2025"))
    ingest(store, [first, second], CANONICAL, at=AT)
    mapping = tmp_path / "map.yaml"
    mapping.write_text('extends: canonical\ntime: ["%d.%m.%Y"]\n')
    assert replay(store, sources.from_mapping(mapping), at=AT).events_inserted == 3
    _undo(store, first)
    assert sorted(store.events.distinct("user_id")) == ["u2", "u3"]
    _undo(store, second)
    assert store.events.count_documents({}) == store.quarantine.count_documents({}) == 0


@pytest.mark.parametrize("again", [False, True])
def test_a_file_that_would_be_read_differently_is_refused_or_replaced(
    store: Store, tmp_path: Path, again: bool
) -> None:
    path, mapping = tmp_path / "log.csv", tmp_path / "map.yaml"
    path.write_text(
        "id,user,at,kind,price\na,u1,2025-01-01 10:00,purchase,100\nb,u2,2025-01-02 10:00,view_item,\n"
    )

    def shop(more: str) -> Source:
        mapping.write_text(
            "name: shop\ncolumns: {event_id: id, user_id: user, event_time: at, event_type: kind}\n" + more
        )
        return sources.from_mapping(mapping)

    ingest(store, [path], shop(""), at=AT)
    before = _content(store)
    corrected = shop("timezone: Europe/Berlin\nevent_types: {view_item: search}\n")
    if again:
        assert ingest(store, [path], corrected, at=AT, replace_earlier=True).events_inserted == 2
        assert sorted(store.events.distinct("event_type")) == ["purchase", "search"]
        assert store.quarantine.count_documents({}) == 0
        _assert_consistent(store)
        return
    with pytest.raises(
        InputError, match=r"ingested on 2025-03-01.*timezone Europe/Berlin instead of UTC"
    ) as error:
        ingest(store, [path], corrected, at=AT)
    assert "vocabulary" in error.value.message
    assert "retail ingest undo" in error.value.remedy
    with pytest.raises(InputError, match="source canonical instead of shop"):
        ingest(store, [path], CANONICAL, at=AT)
    assert _content(store) == before


def test_a_file_without_stored_rows_is_not_in_the_way(store: Store, tmp_path: Path) -> None:
    path = _file(tmp_path, [_row(1)], "log.csv")
    with pytest.raises(InputError):
        ingest(store, [path], sources.get_preset("rees46"), at=AT)
    assert ingest(store, [path], CANONICAL, at=AT).events_inserted == 1


def test_late_events_and_removed_purchases_count_changed_outcomes(store: Store, tmp_path: Path) -> None:
    cutoff = datetime(2025, 1, 10, tzinfo=UTC)
    users = ("u1", "u2", "u3")
    store.outcomes.insert_many(
        {"user_id": user, "as_of": cutoff, "model_version": "1", "purchased": user == "u3"} for user in users
    )
    rows = [
        _row(1, kind="purchase", day=10),
        _row(2, kind="purchase", day=9),
        _row(3, kind="purchase", day=10),
        _row(4, kind="purchase", day=12),
    ]
    path = _file(tmp_path, rows, "late.csv")
    report = ingest(store, [path], CANONICAL, at=AT)
    assert (report.late_events, report.changed_outcomes) == (3, 1)
    assert _undo(store, path).changed_outcomes == 1


def test_changed_outcomes_have_the_horizon_they_were_labelled_with(store: Store, tmp_path: Path) -> None:
    cutoff = datetime(2025, 1, 10, tzinfo=UTC)
    for version, hours in (("short", 1), ("usual", 24), ("long", 72)):
        store.prediction_windows.insert_one(
            {"collection": "outcomes", "as_of": cutoff, "model_version": version, "horizon_hours": hours}
        )
        store.outcomes.insert_many(
            {"user_id": user, "as_of": cutoff, "model_version": version, "purchased": False}
            for user in ("u1", "u2", "u3")
        )
    rows = [
        _row(1, kind="purchase", day=10),
        _row(2, kind="purchase", day=12),
        _row(3, kind="purchase", day=13),
    ]
    path = _file(tmp_path, rows, "late.csv")
    report = ingest(store, [path], CANONICAL, at=AT)
    assert (report.late_events, report.changed_outcomes) == (2, 4)
    store.outcomes.update_many({"user_id": "u2", "model_version": "long"}, {"$set": {"purchased": True}})
    assert _undo(store, path).changed_outcomes == 1


def test_an_undo_of_a_busy_or_unknown_file_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in the ledger"):
        undo(store, "file:none", at=AT)
    path = _file(tmp_path, [_row(1)], "log.csv")
    ingest(store, [path], CANONICAL, at=AT)
    lease = {
        "owner": "x",
        "host": "elsewhere",
        "pid": 1,
        "born": 0.0,
        "until": datetime.now(UTC) + timedelta(hours=1),
    }
    store.ledger.update_one({"kind": "file"}, {"$set": {"lease": lease}})
    with pytest.raises(InputError, match="process 1 on elsewhere"):
        _undo(store, path)


def test_a_killed_undo_that_is_repeated_has_the_result_of_an_undisturbed_one(
    store: Store, tmp_path: Path
) -> None:
    first = _file(tmp_path, [BROKEN, *(_row(user) for user in range(1, 40_000))], "first.csv")
    second = _file(tmp_path, [BROKEN, *(_row(user) for user in range(20_000, 42_000))], "second.csv")
    ingest(store, [first, second], CANONICAL, at=AT)
    file_id = _id(store, first)
    generator = random.Random(7)
    for delay in (0.0, 0.1, 0.25, 0.5, generator.uniform(0.0, 0.8), generator.uniform(0.0, 0.8)):
        ForkedProcess.start(undo_file, store.settings, file_id).kill_after(delay)
        if store.ledger.find_one({"_id": file_id}) is None:
            break
        if store.ledger.find_one({"_id": file_id, "state": "undoing"}):
            with pytest.raises(InputError, match="being removed"):
                ingest(store, [first], CANONICAL, at=AT)
    report = undo(store, file_id, at=AT)
    assert report.already_undone or (report.events, report.events_kept) == (39_999, 20_000)
    _assert_consistent(store)
    assert _content(store) == _fresh_content(store, [second])
    assert sync(store).rows == 22_000


KILLED_AT = (
    "mark_windows",
    "brought_again",
    "move_to_windows",
    "correct_counts",
    "finish",
)


@pytest.mark.parametrize("step", KILLED_AT)
@pytest.mark.parametrize("after", [False, True])
def test_an_undo_that_ends_before_or_after_any_step_is_completed_by_the_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    first = _file(tmp_path, [BROKEN, *(_row(user) for user in range(1, 60))], "first.csv")
    second = _file(tmp_path, [BROKEN, *(_row(user) for user in range(40, 70))], "second.csv")
    ingest(store, [first, second], CANONICAL, at=AT)
    file_id = _id(store, first)
    original: Callable[..., object] = getattr(file_removal, step)

    def interrupted(*args: object) -> object:
        if after:
            original(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(file_removal, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            undo(store, file_id, at=AT)
    report = undo(store, file_id, at=AT)
    if not (step == "finish" and after):
        assert (report.events, report.events_removed, report.events_kept) == (59, 39, 20)
        assert (report.quarantined, report.quarantined_kept) == (1, 1)
    _assert_consistent(store)
    assert _content(store) == _fresh_content(store, [second])


def test_the_command_beside_files_of_any_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retail_core.cli.app import app

    assert store.settings.mongodb_uri
    monkeypatch.setenv("RETAIL_HOME", str(store.settings.home))
    monkeypatch.setenv("RETAIL_MONGODB_URI", store.settings.mongodb_uri.get_secret_value())
    monkeypatch.setenv("RETAIL_MONGODB_DATABASE", store.settings.mongodb_database)
    monkeypatch.chdir(tmp_path)

    def retail(command: str) -> tuple[int, dict[str, object]]:
        run = CliRunner().invoke(app, [*command.split(), "--json"])
        return run.exit_code, json.loads(run.stdout) if run.stdout else {}

    _file(tmp_path, [_row(user) for user in range(1, 31)], "undo")
    assert retail("ingest ./undo")[1]["events_inserted"] == 30
    code, report = retail("ingest undo ./undo")
    assert (code, report["events_removed"], report["models"]) == (0, 30, [])
    assert sync(store).rows == 0
    code, report = retail("ingest undo undo")
    assert (code, report["already_undone"]) == (0, True)
    with pytest.raises(InputError, match="was not ingested"):
        CliRunner().invoke(app, ["ingest", "undo", "never.csv"], catch_exceptions=False)
    assert CliRunner().invoke(app, ["ingest", "undo"]).exit_code == 2


def test_an_event_that_is_ingested_while_it_is_undone_is_stored(store: Store, tmp_path: Path) -> None:
    """A run that sees windows in state `undoing` takes over or stores again what they bring."""
    first = _file(tmp_path, [_row(user) for user in range(1, 31)], "first.csv")
    second = _file(tmp_path, [_row(user) for user in range(11, 41)], "second.csv")
    ingest(store, [first], CANONICAL, at=AT)
    file_id = _id(store, first)
    windows = file_removal.mark_windows(store, file_removal.begin(store, _ledger(store, file_id), AT))
    store.ledger.update_one({"_id": file_id}, {"$set": {"lease": None}})
    store.events.delete_many({"user_id": "u11", "window_id": {"$in": windows}})
    assert ingest(store, [second], CANONICAL, at=AT).events_inserted == 30
    report = undo(store, file_id, at=AT)
    assert (report.events_removed, report.events_kept) == (10, 0)
    _assert_consistent(store)
    assert _content(store) == _fresh_content(store, [second])


def _ledger(store: Store, file_id: str) -> Document:
    return store.ledger.find_one({"_id": file_id}) or {}


def test_a_file_of_release_0_1_0_with_unrecorded_duplicates_is_undone_after_the_later_one(
    store: Store, tmp_path: Path
) -> None:
    first = _file(tmp_path, [_row(1), _row(2)], "first.csv")
    second = _file(tmp_path, [_row(2), _row(3)], "second.csv")
    ingest(store, [first, second], CANONICAL, at=AT)
    store.ledger.update_many({}, {"$unset": {"identity_rule": ""}})
    store.event_duplicates.delete_many({})
    with pytest.raises(InputError, match=r"second.csv was ingested after first.csv by release 0.1.0"):
        _undo(store, first)
    assert store.events.count_documents({}) == 3
    _undo(store, second)
    _undo(store, first)
    assert store.events.count_documents({}) == 0
    assert ingest(store, [second], CANONICAL, at=AT).events_inserted == 2
