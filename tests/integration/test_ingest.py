"""Ingestion into a real MongoDB: counts, resuming, conflicts, concurrent runs, quarantine and replay."""

from __future__ import annotations

import csv
import gzip
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.ingest import IngestReport, ingest, replay, store_events
from retail_core.privacy.erasure import count_stored
from retail_core.settings import Settings
from retail_core.sources import Source
from retail_core.sources.ingest_summary import IngestSummary
from retail_core.sources.raw_tables import WINDOW_ROWS
from retail_core.store.mongo import quarantine
from retail_core.store.mongo.connection import Document, Store, open_store

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
EXPORTS = ROOT / "tests" / "unit" / "sources" / "vendor_exports"
AT = datetime(2025, 3, 1, tzinfo=UTC)
HEADER = "event_id,user_id,event_time,event_type,item_id,price\n"
CANONICAL = sources.get_preset("canonical")
BROKEN = ",u0,never,view_item,,\n"

RUN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from retail_core import sources
from retail_core.ingest import ingest
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store

uri, name, home, file = sys.argv[1:]
with open_store(Settings(home=Path(home), mongodb_uri=uri, mongodb_database=name)) as store:
    print("go", flush=True)
    ingest(store, [Path(file)], sources.get_preset("canonical"), at=datetime(2025, 3, 1, tzinfo=UTC))
"""

HALF = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from retail_core import sources
from retail_core.ingest.window_writer import insert_window, prepare_window, row_format_of
from retail_core.settings import Settings
from retail_core.store.mongo import ledger
from retail_core.store.mongo.connection import open_store

uri, name, home, file = sys.argv[1:]
store = open_store(Settings(home=Path(home), mongodb_uri=uri, mongodb_database=name))
description = {"kind": "file", "file": "killed.csv", "source": "canonical"}
run = ledger.begin_run(store, "file:killed", description, datetime(2025, 3, 1, tzinfo=UTC))
source = sources.get_preset("canonical")
chunk = next(sources.read_events(Path(file), source))
window = ledger.open_window(store, run, (chunk.first, chunk.last), row_format_of(chunk, source))
insert_window(store, prepare_window(chunk, "canonical"), window.window_id)
os._exit(9)
"""


def _start(script: str, settings: Settings, file: Path) -> subprocess.Popen[str]:
    assert settings.mongodb_uri
    uri = settings.mongodb_uri.get_secret_value()
    command = [sys.executable, "-c", script, uri, settings.mongodb_database, str(settings.home), str(file)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def _row(user: int, key: str = "", price: str = "1.50") -> str:
    minute = f"{user // 60 % 24:02d}:{user % 60:02d}"
    return f"{key},u{user},2025-01-{user % 28 + 1:02d}T{minute}:00Z,view_item,i{user},{price}\n"


def _file(tmp_path: Path, rows: list[str], name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(HEADER + "".join(rows))
    return path


def _mixed(rows: int) -> list[str]:
    """Valid rows, every 1000th broken, every 700th repeated."""
    lines = [_row(user) if user % 1000 else f",u{user},never,view_item,,\n" for user in range(1, rows)]
    return [line for row, line in enumerate(lines) for _ in range(2 if row % 700 == 1 else 1)]


def _counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.rows_read, report.events_inserted, report.duplicates, report.quarantined


def _ledger_adds_up(store: Store) -> None:
    """Every window is committed, its counts add up and match the number of events with its id."""
    for window in store.ledger.find({"kind": "window"}):
        counts = window["counts"]
        assert window["state"] == "committed"
        assert counts["rows_read"] == counts["inserted"] + counts["duplicates"] + counts["quarantined"]
        assert counts["inserted"] == store.events.count_documents({"window_id": window["window_id"]})


def _content(store: Store) -> tuple[list[Document], list[Document], list[Document]]:
    """Events, refused rows and file counts, without the ids of windows."""
    hidden = {"window_id": 0}
    events = list(store.events.find({}, hidden, sort=[("_id", 1)]))
    refused = sorted((row["line"], row["rule"], row["raw"]) for row in store.quarantine.find())
    files = list(store.ledger.find({"kind": "file"}, {"counts": 1, "state": 1, "offset": 1, "lease": 1}))
    return events, [{"refused": refused}], files


def test_counts_add_up_and_a_second_run_does_nothing(store: Store, tmp_path: Path) -> None:
    rows = [BROKEN, BROKEN, *_mixed(WINDOW_ROWS + 5_000), BROKEN, BROKEN]
    path = _file(tmp_path, rows)
    progress: list[tuple[str, int, int]] = []
    report = ingest(
        store, [path, path], CANONICAL, at=AT, progress=lambda *arguments: progress.append(arguments)
    )
    bad = sum("never" in row for row in rows)
    valid = {row for row in rows if "never" not in row}
    assert _counts(report) == (len(rows), len(valid), len(rows) - bad - len(valid), bad)
    assert (report.files, report.skipped_files) == (2, 1)
    assert store.events.count_documents({}) == report.events_inserted
    assert store.quarantine.count_documents({}) == bad
    assert progress[-1] == (path.name, path.stat().st_size, path.stat().st_size)
    _ledger_adds_up(store)
    again = ingest(store, [path], CANONICAL, at=AT)
    assert (_counts(again), again.skipped_files) == ((0, 0, 0, 0), 1)
    copy = _file(tmp_path, [*rows, _row(99_999)], "copy.csv")
    other = ingest(store, [copy], CANONICAL, timezone="Asia/Tokyo", at=AT)
    assert _counts(other) == (len(rows) + 1, 1, len(rows) - bad, bad)


def test_an_event_document_has_what_the_event_has_and_no_more(store: Store, tmp_path: Path) -> None:
    ingest(store, [_file(tmp_path, [_row(1), ",u2,2025-01-01,search,,\n"])], CANONICAL, at=AT)
    full, bare = store.events.find({}, {"_id": 0}, sort=[("user_id", 1)])
    assert full == {
        "user_id": "u1", "event_time": datetime(2025, 1, 2, 0, 1, tzinfo=UTC), "event_type": "view_item",
        "item_id": "i1", "price_minor": 150, "source": "canonical", "window_id": 1,
    }  # fmt: skip
    assert set(bare) == {"user_id", "event_time", "event_type", "source", "window_id"}
    (file,) = store.ledger.find({"kind": "file"})
    assert file["_id"] == f"file:{file['sha256']}:canonical:{CANONICAL.options_hash()}"
    assert (file["file"], file["state"], file["offset"], file["lease"]) == ("log.csv", "done", 3, None)
    assert (file["timezone"], file["policy"], file["finished_at"]) == ("UTC", None, AT)


def test_an_existing_id_with_another_content_is_a_conflict(store: Store, tmp_path: Path) -> None:
    first = [_row(1, "a"), _row(2, "b"), _row(1, "a"), _row(3, "a")]
    report = ingest(store, [_file(tmp_path, first)], CANONICAL, at=AT)
    assert _counts(report) == (4, 2, 1, 1)
    report = ingest(store, [_file(tmp_path, [_row(1, "a"), _row(9, "b"), _row(4)])], CANONICAL, at=AT)
    assert _counts(report) == (3, 1, 1, 1)
    shown = [
        tuple(row[name] for name in ("line", "field", "rule", "value", "raw"))
        for row in quarantine.list_refused(store)
    ]
    assert shown == [
        (3, "event_id", "conflict", "b", _row(9, "b").strip()),
        (5, "event_id", "conflict", "a", _row(3, "a").strip()),
    ]
    assert store.events.find_one({"item_id": "i2"}) is not None
    _ledger_adds_up(store)


def test_user_attributes_are_stored_once_with_their_time(store: Store, tmp_path: Path) -> None:
    text = (
        "user_id,first_visit_date,age,screen_list,purchase_date\n1,4/29/23,66,cart,4/29/23\n2,4/30/23,7,,\n"
    )
    for name in ("a", "b"):
        (tmp_path / name).write_text(text.replace("\n", "\n\n", 1) if name == "b" else text)
        report = ingest(store, [tmp_path / name], sources.get_preset("app_profile"), at=AT)
    assert _counts(report) == (2, 0, 2, 0)
    users = list(store.users.find({}, {"_id": 0}, sort=[("user_id", 1)]))
    assert [(row["user_id"], row["attributes"], row["window_id"]) for row in users] == [
        ("1", '{"age":66}', 1), ("2", '{"age":7}', 1),
    ]  # fmt: skip
    assert users[0]["valid_from"] == datetime(2023, 4, 29, tzinfo=UTC)
    assert [row["users"] for row in store.ledger.find({"kind": "window"}, sort=[("window_id", 1)])] == [2, 0]


@pytest.fixture
def undisturbed(settings: Settings) -> Iterator[Store]:
    """Another database on the same server."""
    second_database = settings.model_copy(update={"mongodb_database": f"{settings.mongodb_database}_plain"})
    with open_store(second_database) as store:
        yield store
        store.client.drop_database(second_database.mongodb_database)


def test_a_killed_run_that_is_repeated_has_the_result_of_an_undisturbed_one(
    settings: Settings, store: Store, undisturbed: Store, tmp_path: Path
) -> None:
    path = _file(tmp_path, _mixed(2 * WINDOW_ROWS))
    started = time.perf_counter()
    ingest(undisturbed, [path], CANONICAL, at=AT)
    duration = time.perf_counter() - started
    generator = random.Random(5)
    for _ in range(4):
        process = _start(RUN, settings, path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0, duration * 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    ingest(store, [path], CANONICAL, at=AT)
    assert _content(store) == _content(undisturbed)
    _ledger_adds_up(store)


def test_the_summary_of_a_continued_file_is_that_of_the_whole_file(
    store: Store, undisturbed: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, _mixed(2 * WINDOW_ROWS))
    whole = ingest(undisturbed, [path], CANONICAL, at=AT)

    def stop_after_first_window(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(store, [path], CANONICAL, at=AT, progress=stop_after_first_window)
    continued = ingest(store, [path], CANONICAL, at=AT)
    assert 0 < continued.rows_read < whole.rows_read
    assert continued.summary == whole.summary
    stored, expected = (
        (database.ledger.find_one({"kind": "file"}) or {})["summary"] for database in (store, undisturbed)
    )
    assert stored == expected


def test_a_second_run_is_an_input_error_until_the_first_has_ended(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    path = _file(tmp_path, [_row(user) for user in range(WINDOW_ROWS + 5_000)])
    process = _start(RUN, settings, path)
    assert process.stdout is not None
    process.stdout.readline()
    while not store.ledger.find_one({"kind": "file", "lease.pid": process.pid}):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(InputError, match=rf"log.csv is being worked on by process {process.pid} on "):
        ingest(store, [path], CANONICAL, at=AT)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert ingest(store, [path], CANONICAL, at=AT).skipped_files == 0
    assert store.events.count_documents({}) == WINDOW_ROWS + 5_000
    _ledger_adds_up(store)


def test_events_of_an_abandoned_window_move_to_the_next_run(
    settings: Settings, store: Store, tmp_path: Path
) -> None:
    killed = _file(tmp_path, [_row(user, "x" if user == 1 else "") for user in range(100)], "killed.csv")
    process = _start(HALF, settings, killed)
    process.communicate()
    assert process.returncode == 9
    complete = _file(tmp_path, [_row(user, "x" if user == 1 else "") for user in range(150)], "complete.csv")
    assert _counts(ingest(store, [complete], CANONICAL, at=AT)) == (150, 150, 0, 0)
    assert store.events.distinct("window_id") == [2]


def test_rows_before_a_truncation_are_stored(store: Store, tmp_path: Path) -> None:
    rows = [_row(user * 7919 % 100_003) for user in range(30_000)]
    compressed = gzip.compress((HEADER + "".join(rows)).encode())
    path = tmp_path / "log.csv.gz"
    path.write_bytes(compressed[: len(compressed) * 9 // 10])
    for _ in range(2):
        with pytest.raises(InputError, match="cut off or damaged"):
            ingest(store, [path], CANONICAL, at=AT)
    stored = store.events.count_documents({})
    assert 20_000 < stored < 30_000
    assert store.quarantine.count_documents({}) == 0
    path.write_bytes(compressed)
    assert _counts(ingest(store, [path], CANONICAL, at=AT)) == (30_000, 30_000 - stored, stored, 0)
    _ledger_adds_up(store)


def _mapping(tmp_path: Path, text: str) -> Source:
    path = tmp_path / "mapping.yaml"
    path.write_text(text)
    return sources.from_mapping(path)


def test_replay_stores_valid_rows_and_leaves_others_in_quarantine(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    body = _row(1) + _row(2).replace("i2", "caf\xe9") + _row(3, price="1.5,") + _row(4).replace("2025", "25")
    path.write_bytes((HEADER + body + ',u5,2025-01-01,search,"a\nb,1\n').encode("latin-1"))
    report = ingest(store, [path], CANONICAL, at=AT)
    assert _counts(report) == (6, 1, 0, 5)
    fixed = _mapping(tmp_path, "extends: canonical\nencoding: latin-1\n")
    replayed = replay(store, fixed, at=AT)
    assert (replayed.rows, replayed.events_inserted, replayed.quarantined) == (5, 1, 4)
    assert store.events.find_one({"item_id": "café"}) is not None
    second_replay = replay(store, fixed, at=AT)
    assert (second_replay.rows, second_replay.events_inserted, second_replay.quarantined) == (4, 0, 4)
    states = [row["state"] for row in store.quarantine.find(sort=[("line", 1)])]
    assert states == ["replayed", "refused", "refused", "refused", "refused"]
    assert quarantine.count_refused(store) == 4
    _ledger_adds_up(store)


def test_a_refused_row_of_a_changed_copy_is_in_quarantine_once(store: Store, tmp_path: Path) -> None:
    broken = [BROKEN, _row(3, price="-1"), BROKEN]
    for number in range(3):
        rows = [*broken, *map(_row, range(10, 20 + number))]
        report = ingest(store, [_file(tmp_path, rows)], CANONICAL, at=AT)
        assert (report.rows_read, report.quarantined) == (len(rows), 3)
    quarantined = [(row["line"], row["rule"]) for row in store.quarantine.find(sort=[("_id", 1)])]
    assert quarantined == [(2, "time"), (3, "price_negative"), (4, "time")]
    _ledger_adds_up(store)
    mapping = "columns: {quantity: price, price: 'cost?'}\n"
    ingest(store, [_file(tmp_path, broken)], _mapping(tmp_path, f"extends: canonical\n{mapping}"), at=AT)
    assert [row["rule"] for row in quarantine.list_refused(store)] == ["time", "quantity_negative", "time"]
    second_source = _mapping(tmp_path, f"extends: canonical\nname: other\n{mapping}")
    assert ingest(store, [_file(tmp_path, ["\n", *broken])], second_source, at=AT).quarantined == 3
    assert quarantine.count_refused(store) == 6
    assert replay(store, CANONICAL, at=AT).rows == 3


def test_replay_of_sessions_and_conflicts(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "otto.jsonl"
    path.write_text('{"session": 1, "events": [{"aid": 1, "ts": "2022-01-01", "type": "clicks"}]}\nno json\n')
    assert _counts(ingest(store, [path], sources.get_preset("otto"), at=AT)) == (2, 0, 0, 2)
    fixed = _mapping(tmp_path, "extends: otto\ntime: iso\n")
    assert replay(store, fixed, at=AT).events_inserted == 1
    log = _file(tmp_path, [_row(1, "a"), _row(2, "a")])
    ingest(store, [log], CANONICAL, at=AT)
    store.events.delete_many({"source": "canonical"})
    report = replay(store, CANONICAL, at=AT)
    assert (report.rows, report.events_inserted, report.quarantined) == (1, 1, 0)


@pytest.mark.parametrize("path", sorted(EXPORTS.iterdir()), ids=lambda path: path.name)
def test_an_export_of_a_vendor_that_is_ingested_again_gives_duplicates_only(
    store: Store, tmp_path: Path, path: Path
) -> None:
    source = sources.get_preset(path.name.partition(".")[0].partition("-")[0])
    first = ingest(store, [path], source, at=AT)
    assert first.rows_read == first.events_inserted + first.quarantined > 0
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes().replace(b"\n", b"\n\n", 1))
    second = ingest(store, [copy], source, at=AT)
    assert _counts(second) == (first.rows_read, 0, first.events_inserted, first.quarantined)
    replayed = replay(store, source, at=AT)
    assert (replayed.events_inserted, replayed.quarantined) == (0, first.quarantined)


def test_list_and_export_are_readable_without_formulas(store: Store, tmp_path: Path) -> None:
    rows = [",=cmd|'/C calc'!A1,never,search,,\n", ",u\udcff,never,search,,\n"]
    path = tmp_path / "log.csv"
    path.write_bytes((HEADER + "".join(rows)).encode("utf-8", "surrogateescape"))
    ingest(store, [path], CANONICAL, at=AT)
    newest, _ = quarantine.list_refused(store)
    assert (newest["line"], newest["rule"], newest["at"]) == (3, "encoding", "2025-03-01T00:00:00Z")
    assert newest["raw"] == ",u\\xff,never,search,,"
    out = tmp_path / "refused.csv"
    assert quarantine.export_csv(store, out) == 2
    with out.open(newline="") as file:
        exported = list(csv.DictReader(file))
    assert [row["field"] for row in exported] == ["event_time", ""]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in exported for cell in row.values())
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []
    with pytest.raises(InputError, match="cannot be written"):
        quarantine.export_csv(store, tmp_path / "no" / "refused.csv")


def test_posted_events_use_the_same_windows(store: Store) -> None:
    rows: list[dict[str, object]] = [
        {"event_id": "1", "user_id": "u", "event_time": "2025-01-01T00:00:00Z", "event_type": "search"},
        {"event_id": "1", "user_id": "vä", "event_time": "2025-01-01T00:00:00Z", "event_type": "search"},
        {"user_id": "u", "event_time": "soon", "event_type": "search"},
    ]
    for inserted in (1, 0):
        result = store_events(store, rows, CANONICAL)
        counts, refused = result.counts, result.refused
        assert (counts.rows_read, counts.inserted, counts.duplicates) == (3, inserted, 1 - inserted)
        assert sorted((row.line, row.rule) for row in refused) == [(2, "conflict"), (3, "time")]
    shown = [(row["file"], row["line"], row["rule"], row["value"]) for row in quarantine.list_refused(store)]
    assert shown == [("api", 3, "time", "soon"), ("api", 2, "conflict", "1")]
    _ledger_adds_up(store)
    assert count_stored(store, "vä")["quarantine"] == 1
    store.events.delete_many({})
    report = replay(store, CANONICAL, at=AT)
    assert (report.rows, report.events_inserted, report.quarantined) == (2, 1, 1)
    assert store.events.find_one({}, {"_id": 0, "user_id": 1}) == {"user_id": "vä"}


def test_warnings_and_filters_are_recorded_beside_the_counts(store: Store, tmp_path: Path) -> None:
    rows = [
        _row(1, price="$1"),
        _row(2).replace("u2,", "1.5E+10,"),
        _row(3).replace("view_item", "PURCHASE"),
        _row(4).replace("view_item", "ping"),
    ]
    source = _mapping(tmp_path, "extends: canonical\nevent_types: {ping: null}\n")
    report = ingest(store, [_file(tmp_path, rows)], source, at=AT)
    assert _counts(report) == (3, 3, 0, 0)
    counted = [(note["field"], note["rule"], note["count"]) for note in report.warnings]
    expected = [("user_id", "scientific", 1), ("price", "price", 1), ("event_type", "event_type_similar", 1)]
    assert counted == expected
    assert report.warnings[0]["examples"] == [{"line": 3, "value": "1.5E+10", "file": "log.csv"}]
    assert report.filtered == [{"column": "event_type", "rule": "event_type", "value": "ping", "count": 1}]
    assert (report.summary["users"], report.summary["purchases"]) == (3, 0)
    (window,), (file,) = (list(store.ledger.find({"kind": kind})) for kind in ("window", "file"))
    assert [note["rule"] for note in window["warnings"]] == ["scientific", "price"]
    assert window["filtered"] == report.filtered
    summary = IngestSummary.from_document(file["summary"])
    assert [(note["field"], note["rule"], note["count"]) for note in summary.warnings] == expected
    values = [note["examples"][0]["value"] for note in summary.warnings]
    assert values == [None, "$1", "PURCHASE resembles purchase"]
    assert list(summary.filtered) == report.filtered
    assert (summary.event_types, summary.users) == ({"view_item": 2, "PURCHASE": 1}, 3)
    assert summary.similar_event_types == {"PURCHASE": "purchase"}
    assert summary.absent_columns == (
        "brand", "category", "currency", "order_id", "platform", "quantity", "session_id",
    )  # fmt: skip
    assert summary.null_fields == ("event_id",)


def test_a_window_of_filtered_rows_alone_is_counted(store: Store, tmp_path: Path) -> None:
    source = _mapping(tmp_path, "extends: canonical\nwhere: {item_id: none-such}\n")
    report = ingest(store, [_file(tmp_path, [_row(1), _row(2)])], source, at=AT)
    assert (_counts(report), report.filtered[0]["count"]) == ((0, 0, 0, 0), 2)
    (file,) = store.ledger.find({"kind": "file"})
    assert file["summary"]["filtered"] == report.filtered


def test_a_request_tells_what_was_not_read(store: Store) -> None:
    row: dict[str, object] = {"event_time": "2025-01-01T10:00:00Z", "event_type": "purchase"}
    rows: list[dict[str, object]] = [
        row | {"user_id": "u1", "prise": 5, "item_ID": "i1"},
        row | {"user_id": {"id": "u2"}},
        row | {"user_id": ["u3"]},
        row | {"user_id": "u4", "price": "cheap"},
    ]
    result = store_events(store, rows, CANONICAL)
    assert result.unread_fields == ("item_ID", "prise")
    assert [(row.line, row.field) for row in result.refused] == [(2, "user_id"), (3, "user_id")]
    assert [(warning.field, warning.count) for warning in result.notes.warnings] == [("price", 1)]
    assert store.events.distinct("user_id") == ["u1", "u4"]


def test_a_refused_file_leaves_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column 'user_id'"):
        ingest(store, [path], CANONICAL, at=AT)
    with pytest.raises(InputError, match="There is no file"):
        ingest(store, [path, tmp_path / "no.csv"], CANONICAL, at=AT)
    assert store.events.count_documents({}) == store.quarantine.count_documents({}) == 0
    assert store.ledger.count_documents({"kind": "window"}) == 0


def test_another_catalogue_is_another_reading_and_replay_joins_the_present_one(
    store: Store, tmp_path: Path
) -> None:
    log, mapping, orders = tmp_path / "lines.csv", tmp_path / "shop.yaml", tmp_path / "orders.csv"
    log.write_text("o,i\n1,a\n2,b\n")
    orders.write_text("id,u,t\n1,u1,2025-01-01\n")
    mapping.write_text(
        "name: shop\ncolumns: {user_id: u, event_time: t, item_id: i}\nconstants: {event_type: purchase}\n"
        "join: {file: orders.csv, on: {o: id}, columns: [u, t]}\n"
    )
    report = ingest(store, [log], sources.from_mapping(mapping), at=AT)
    assert _counts(report) == (2, 1, 0, 1)
    orders.write_text("id,u,t\n1,u1,2025-01-01\n2,u2,2025-01-02\n")
    with pytest.raises(InputError, match=r"would be read differently: joins .*sha256"):
        ingest(store, [log], sources.from_mapping(mapping), at=AT)
    assert replay(store, sources.from_mapping(mapping), at=AT).events_inserted == 1
    stored = store.events.find_one({"user_id": "u2"}) or {}
    assert (stored["item_id"], store.quarantine.count_documents({"state": "refused"})) == ("b", 0)
    _ledger_adds_up(store)


def test_a_replay_of_a_source_without_refused_rows_names_those_with_some(
    store: Store, tmp_path: Path
) -> None:
    shop = _mapping(tmp_path, "extends: canonical\nname: shop\n")
    assert replay(store, shop, at=AT).rows == 0
    ingest(store, [_file(tmp_path, [BROKEN, _row(1)])], CANONICAL, at=AT)
    with pytest.raises(InputError, match=r"is of source shop; .* rows of canonical \(1\)") as error:
        replay(store, shop, at=AT)
    assert "source with its name" in error.value.remedy
    assert store.ledger.count_documents({"_id": "replay:shop"}) == 1
    store.quarantine.update_many({}, {"$set": {"state": "replayed"}})
    assert replay(store, CANONICAL, at=AT).rows == 0
