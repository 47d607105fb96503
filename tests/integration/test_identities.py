"""Identity links in a real MongoDB: files, requests, repeated runs, undo, erasure."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from retail_core import sources
from retail_core.cli.app import app
from retail_core.ingest import ingest, replay, store_events, undo
from retail_core.privacy import erasure
from retail_core.stack.doctor import doctor
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo import identities
from retail_core.store.mongo.connection import Store

pytestmark = pytest.mark.integration

AT = datetime(2025, 3, 1, tzinfo=UTC)
CANONICAL = sources.get_preset("canonical")
LINKS = sources.get_preset("identities")
HEADER = "user_id,anonymous_id,event_time,event_type\n"
LINK_HEADER = "from_id,to_id,linked_at\n"


def _write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def _links(store: Store) -> list[str]:
    documents = store.identities.find({}, sort=[("from_id", 1), ("to_id", 1)])
    return [f"{link['from_id']} {link['to_id']} {link['linked_at']:%d}" for link in documents]


def _file_id(store: Store, path: Path) -> str:
    file = store.ledger.find_one({"kind": "file", "file": path.name}, {"_id": 1})
    assert file is not None
    return str(file["_id"])


def test_rows_with_two_ids_are_events_and_links(store: Store, tmp_path: Path) -> None:
    rows = ",a1,2025-01-01,view_item\nk1,a1,2025-01-03,purchase\nk1,a1,2025-01-02,view_item\n"
    path = _write(tmp_path, "log.csv", HEADER + rows)
    report = ingest(store, [path], CANONICAL, at=AT)
    assert (report.rows_read, report.events_inserted, report.links) == (3, 3, 1)
    assert _links(store) == ["a1 k1 02"]
    window = store.ledger.find_one({"kind": "window"}) or {}
    assert (window["links"], window["user_columns"]) == (1, ["user_id", "anonymous_id"])
    assert store.events.distinct("user_id") == ["a1", "k1"]


def test_a_log_without_links_stores_none(store: Store, tmp_path: Path) -> None:
    path = _write(tmp_path, "log.csv", "user_id,event_time,event_type\nk1,2025-01-01,view_item\n")
    assert ingest(store, [path], CANONICAL, at=AT).links == 0
    assert store.identities.find_one({}) is None
    assert "links" not in (store.ledger.find_one({"kind": "window"}) or {})


def test_a_file_of_links_counts_none_of_its_rows_as_events(store: Store, tmp_path: Path) -> None:
    text = LINK_HEADER + "a1,k1,2025-01-05\na2,k1,2025-01-06\n,k1,2025-01-07\n$a,$set,2025-01-08\n"
    report = ingest(store, [_write(tmp_path, "links.csv", text)], LINKS, at=AT)
    assert (report.rows_read, report.events_inserted, report.quarantined, report.links) == (1, 0, 1, 3)
    assert [(rows["rule"], rows["count"]) for rows in report.filtered] == [("identity", 3)]
    assert _links(store) == ["$a $set 08", "a1 k1 05", "a2 k1 06"]


def test_a_link_of_an_id_to_itself_is_refused_and_the_rows_add_up(store: Store, tmp_path: Path) -> None:
    rows = "a4,a4,2025-01-05\n a4 ,a4,2025-01-05\n4.0,4,2025-01-05\na4,k1,2025-01-05\n"
    report = ingest(store, [_write(tmp_path, "links.csv", LINK_HEADER + rows)], LINKS, at=AT)
    assert (report.links, report.rows_read, report.quarantined) == (1, 3, 3)
    assert [entry["count"] for entry in report.filtered] == [1]
    refused = [(row["line"], row["field"], row["rule"]) for row in store.quarantine.find(sort=[("_id", 1)])]
    assert refused == [(line, "from_id", "link_self") for line in (2, 3, 4)]


def test_the_earliest_time_of_several_files_counts_and_undo_restores_the_other(
    store: Store, tmp_path: Path
) -> None:
    first = _write(tmp_path, "first.csv", LINK_HEADER + "a1,k1,2025-01-05\na2,k1,2025-01-05\n")
    second = _write(
        tmp_path, "second.csv", LINK_HEADER + "a1,k1,2025-01-03\na1,k1,2025-01-09\na3,k1,2025-01-05\n"
    )
    ingest(store, [first], LINKS, at=AT)
    before = list(store.identities.find({}))
    ingest(store, [second], LINKS, at=AT)
    assert _links(store) == ["a1 k1 03", "a2 k1 05", "a3 k1 05"]
    report = undo(store, _file_id(store, second), at=AT)
    assert (report.links, report.links_removed, report.links_kept) == (2, 1, 1)
    assert list(store.identities.find({})) == before


def test_the_same_links_again_change_nothing(store: Store, tmp_path: Path) -> None:
    links = [identities.StoredLink("a1", "k1", AT), identities.StoredLink("a2", "k1", AT)]
    assert identities.add_links(store, links, ["file:x"], "identities") == 2
    before = list(store.identities.find({}))
    assert identities.add_links(store, links, ["file:x"], "identities") == 0
    assert list(store.identities.find({})) == before


def test_posted_events_link_and_the_channel_is_one_origin(store: Store) -> None:
    row = {"user_id": "k1", "anonymous_id": "a1", "event_type": "view_item"}
    for day in (5, 4, 6):
        stored = store_events(store, [row | {"event_time": f"2025-01-0{day}"}], CANONICAL)
        assert (stored.counts.inserted, stored.unread_fields) == (1, ())
    (link,) = store.identities.find({})
    assert [entry["file_id"] for entry in link["brought"]] == ["api:canonical"]
    assert link["linked_at"].day == 4


def test_a_conflicting_event_gives_no_link(store: Store) -> None:
    row = {"event_id": "1", "user_id": "k1", "event_time": "2025-01-01", "event_type": "view_item"}
    store_events(store, [row], CANONICAL)
    stored = store_events(store, [row | {"user_id": "k2", "anonymous_id": "a1"}], CANONICAL)
    assert (stored.counts.quarantined, stored.links) == (1, 0)
    assert _links(store) == []


def test_a_replayed_row_links_and_goes_with_its_file(store: Store, tmp_path: Path) -> None:
    path = _write(tmp_path, "links.csv", LINK_HEADER + "a1,k1,never\n")
    ingest(store, [path], LINKS, at=AT)
    store.quarantine.update_many({}, {"$set": {"raw": "a1,k1,2025-01-02"}})
    replay(store, LINKS, at=AT)
    assert _links(store) == ["a1 k1 02"]
    undo(store, _file_id(store, path), at=AT)
    assert _links(store) == []


def test_erasure_follows_the_links_and_removes_them(store: Store, tmp_path: Path) -> None:
    text = LINK_HEADER + "a1,k1,2025-01-05\nk1,k2,2025-01-06\na9,k9,2025-01-06\na2,k1,2025-09-01\n"
    ingest(store, [_write(tmp_path, "links.csv", text)], LINKS, at=AT)
    rows = [
        {"user_id": user, "event_time": "2025-01-01", "event_type": "x"} for user in ("a1", "k1", "k2", "a9")
    ]
    store_events(store, rows, CANONICAL)
    sync(store)
    lake = Lake(store.settings.lake_url)
    for asked in ("a1", "k1", "k2"):
        assert erasure.person_ids(store, asked, AT) == (asked, *sorted({"a1", "k1", "k2"} - {asked}))
    assert erasure.person_ids(store, "a2", AT) == ("a2",)
    assert erasure.person_ids(store, "k1", datetime(2025, 1, 2, tzinfo=UTC)) == ("k1",)
    ids = erasure.person_ids(store, "k2", AT)
    counts = erasure.count_stored(store, *ids)
    assert (counts["identities"], counts["events"], counts["lake_events"]) == (3, 3, 3)
    assert erasure.export(store, ids, tmp_path / "out.jsonl") == 6
    assert erasure.erase(store, *ids) == counts
    assert _links(store) == ["a9 k9 06"]
    assert store.events.distinct("user_id") == ["a9"]
    path = lake.identities_file()
    assert path is not None
    assert [file.name for file in Path(path).parent.glob("*.parquet")] == [Path(path).name]
    assert pq.read_table(path)["to_id"].to_pylist() == ["k9"]
    assert lake.files()


def test_the_lake_has_the_links_that_are_stored(store: Store, tmp_path: Path) -> None:
    lake = Lake(store.settings.lake_url)
    sync(store)
    assert lake.identities_file() is None
    path = _write(tmp_path, "links.csv", LINK_HEADER + "a1,k1,2025-01-05\n")
    ingest(store, [path], LINKS, at=AT)
    sync(store)
    first = lake.identities_file()
    sync(store)
    assert lake.identities_file() == first is not None
    link = {"from_id": "a1", "to_id": "k1", "linked_at": datetime(2025, 1, 5, tzinfo=UTC)}
    assert pq.read_table(first).to_pylist() == [link]
    reader = lake.snapshot()
    undo(store, _file_id(store, path), at=AT)
    sync(store)
    assert lake.identities_file() is None
    assert reader.identities_file() == first
    assert pq.read_table(first).to_pylist() == [link]


def test_a_plain_file_of_links_is_replaced_by_the_table(store: Store, tmp_path: Path) -> None:
    """As it was before the lake had a table of links; also where MongoDB has no links any more."""
    folder = Path(store.settings.lake_url) / "identities"
    plain = folder / "00000001-0123456789abcdef.parquet"
    for text in (LINK_HEADER + "a1,k1,2025-01-05\n", ""):
        folder.mkdir(parents=True, exist_ok=True)
        plain.write_bytes(b"links")
        if text:
            ingest(store, [_write(tmp_path, "links.csv", text)], LINKS, at=AT)
        else:
            shutil.rmtree(folder / "_delta_log")
            store.identities.delete_many({})
        sync(store)
        path = Lake(store.settings.lake_url).identities_file()
        assert (path is not None) == bool(text)
        assert [str(file) for file in folder.glob("*.parquet")] == ([path] if path else [])


def test_links_that_no_person_can_have_are_reported(store: Store, tmp_path: Path) -> None:
    rows = "".join(f"a{n},unknown,2025-01-05\n" for n in range(101))
    path = _write(tmp_path, "links.csv", LINK_HEADER + rows + "b1,b2,2025-01-05\nb3,b4,2025-01-05\n")
    report = ingest(store, [path], LINKS, at=AT)
    (warning,) = report.warnings
    assert (warning["rule"], warning["count"]) == ("identity_implausible", 101)
    assert [example["value"] for example in warning["examples"]] == [
        "unknown: 102 connected ids, more than a person has"
    ]
    file = store.ledger.find_one({"_id": _file_id(store, path)}) or {}
    (stored,) = file["summary"]["warnings"]
    assert (stored["count"], stored["examples"][0]["value"]) == (101, None)
    other = _write(tmp_path, "others.csv", LINK_HEADER + "c1,c2,2025-01-05\n")
    assert ingest(store, [other], LINKS, at=AT).warnings == []
    joining = _write(tmp_path, "joining.csv", LINK_HEADER + "c3,unknown,2025-01-06\n")
    (warning,) = ingest(store, [joining], LINKS, at=AT).warnings
    assert (warning["rule"], warning["count"]) == ("identity_implausible", 102)
    (check,) = (entry for entry in doctor(store.settings) if entry["name"] == "identities")
    assert (check["state"], "unknown: 103 connected ids" in check["what"]) == ("warn", True)


def test_the_commands_name_all_ids_of_the_person(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = store.settings.mongodb_uri
    assert uri is not None
    monkeypatch.setenv("RETAIL_HOME", str(store.settings.home_dir))
    monkeypatch.setenv("RETAIL_MONGODB_URI", uri.get_secret_value())
    monkeypatch.setenv("RETAIL_MONGODB_DATABASE", store.settings.mongodb_database)
    path = _write(tmp_path, "links.csv", LINK_HEADER + "a1,k1,2025-01-05\n")
    reports = []
    for command in (
        f"ingest {path} --source identities",
        "user show a1",
        "user delete k1 --yes",
        "user show a1",
    ):
        run = CliRunner().invoke(app, [*command.split(), "--json"])
        assert run.exit_code == 0, run.output
        reports.append(json.loads(run.stdout))
    assert [report.get("links") for report in reports[:1]] == [1]
    assert [(report["ids"], report["identities"]) for report in reports[1:]] == [
        (["a1", "k1"], 1),
        (["k1", "a1"], 1),
        (["a1"], 0),
    ]
