"""Erasure removes a user from every store, also after it was killed at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from retail_core import sources
from retail_core.errors import DataError, InputError
from retail_core.ingest import ingest, replay
from retail_core.privacy import erasure
from retail_core.privacy.refused_rows import refused_user_ids
from retail_core.scoring.audience_selection import refuse_erased_users
from retail_core.scoring.prediction_storage import write_lake_predictions
from retail_core.settings import Settings
from retail_core.sources.presets.snowplow import TSV_COLUMNS
from retail_core.store.lake.erase import count_in_lake, erase_from_lake
from retail_core.store.lake.table import Lake, rebuild, sync
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.predictions import (
    read_predictions,
    replace_predictions,
    replace_shadow_predictions,
)
from tests.forked_processes import ForkedProcess
from tests.killed_programs import erase_user
from tests.lake_windows import event, predictions_of, put

pytestmark = pytest.mark.integration
AS_OF = datetime(2025, 1, 20, tzinfo=UTC)
ERASED, OTHER_USER = "7", "u7"


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Store:
    """Two users with events on several days, predictions, a mirror, a log, attributes and refused rows."""
    lines = ["user_id,event_time,event_type,quantity"]
    lines += [
        f"{user},2025-01-{day:02d}T{hour:02d}:00:00Z,view_item,7"
        for user in (ERASED, OTHER_USER)
        for day in (3, 9, 17)
        for hour in range(5)
    ]
    lines += [f"{user},not a time,view_item,7" for user in (ERASED, OTHER_USER)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(lines) + "\n")
    ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    sync(store)
    scored = predictions_of(ERASED, OTHER_USER, as_of=AS_OF)
    replace_predictions(store, scored, as_of=AS_OF, model_version="1")
    write_lake_predictions(store.settings.lake_url, scored, as_of=AS_OF, version="1")
    replace_shadow_predictions(store, scored, as_of=AS_OF, model_version="1")
    campaigns = ("campaign_members", "campaign_contacts", "contact_consent")
    for name in ("users", "prediction_log", "shadow_answers", "audiences", *campaigns):
        # MongoDB itself forgets an old entry of the log.
        store.database[name].insert_many(
            [{"user_id": user, "at": datetime.now(UTC)} for user in (ERASED, OTHER_USER)]
        )
    return store


def stored_users(store: Store) -> set[str]:
    """Users in any document of MongoDB or any file of the lake, superseded files included."""
    users: set[str] = set()
    for name in store.database.list_collection_names():
        for document in store.database[name].find():
            users |= {str(document.get("user_id", "")), str(document.get("raw", "")).split(",", 1)[0]}
    for path in Path(store.settings.lake_url).glob("*/[!_]*/**/*.parquet"):
        users |= set(pq.ParquetFile(path).read(["user_id"])["user_id"].to_pylist())
    return users - {""}


def counts_by_place(count: int) -> dict[str, int]:
    return {
        "upload_results": 0,
        "users": count,
        "predictions": count,
        "shadow_predictions": count,
        "outcomes": 0,
        "audiences": count,
        "campaign_members": count,
        "campaign_contacts": count,
        "contact_consent": count,
        "prediction_log": count,
        "shadow_answers": count,
        "events": 15 * count,
        "quarantine": count,
        "lake_events": 15 * count,
        "lake_attributes": 0,
        "lake_predictions": count,
        "identities": 0,
    }


def test_stored_data_are_counted_and_exported(shop: Store, tmp_path: Path) -> None:
    assert erasure.count_stored(shop, ERASED) == counts_by_place(1)
    assert erasure.count_stored(shop, "nobody") == counts_by_place(0)
    out = tmp_path / "user.jsonl"
    assert erasure.export(shop, [ERASED], out) == 25
    assert {json.loads(line).get("user_id", ERASED) for line in out.read_text().splitlines()} == {ERASED}
    with pytest.raises(InputError, match="not empty"):
        erasure.count_stored(shop, "")


def test_erasure_removes_every_trace_and_no_other_user(shop: Store) -> None:
    assert stored_users(shop) == {ERASED, OTHER_USER}
    assert erasure.erase(shop, ERASED) == counts_by_place(1)
    assert erasure.count_stored(shop, ERASED) == counts_by_place(0)
    assert erasure.count_stored(shop, OTHER_USER) == counts_by_place(1)
    assert stored_users(shop) == {OTHER_USER}
    assert read_predictions(shop, as_of=AS_OF)["user_id"].tolist() == [OTHER_USER]
    assert [window["rows"] for window in shop.prediction_windows.find()] == [1, 1]
    lake = Lake(shop.settings.lake_url)
    state = lake.state(hashed=True)
    assert state.rows == 15
    rebuild(shop)
    assert lake.state(hashed=True) == state


def test_no_file_of_the_lake_contains_an_erased_user(store: Store) -> None:
    """Neither data files nor the log with its checkpoints and statistics, also after further commits."""
    erased = "zz-erased-user"
    for window_id in range(1, 25):
        users = ("a", erased) if window_id % 2 else ("a", "b")
        events = [
            event(window_id * 10 + n, window_id, user_id=user, item_id=f"{user}-item", day=window_id % 3)
            for n, user in enumerate(users)
        ]
        put(store, window_id, events, users=1)
        attributes = {"user_id": users[1], "valid_from": AS_OF, "attributes": "{}", "window_id": window_id}
        store.users.insert_one({"_id": f"{window_id}"} | attributes)
        sync(store)
    write_lake_predictions(store.settings.lake_url, predictions_of("a", erased), as_of=AS_OF, version="1")
    assert any(erased in content for content in _lake_contents(store))
    for name in ("events", "users"):
        store.database[name].delete_many({"user_id": erased})
    erase_from_lake(store.settings, erased)
    assert not [content for content in _lake_contents(store) if erased in content]
    put(store, 25, [event(999, 25, user_id="b")])
    state = sync(store)
    assert state.rows == store.events.count_documents({})
    assert not [content for content in _lake_contents(store) if erased in content]
    assert count_in_lake(store.settings, "b")["lake_attributes"] == 1


def _lake_contents(store: Store) -> list[str]:
    """Bytes of every file, and the values of every Parquet file, as text."""
    paths = [path for path in Path(store.settings.lake_url).rglob("*") if path.is_file()]
    values = [
        json.dumps(pq.read_table(path, partitioning=None).to_pylist(), default=str)
        for path in paths
        if path.suffix == ".parquet"
    ]
    return values + [path.read_bytes().decode(errors="replace") for path in paths]


STRAYS = (
    "events/day=2025-01-03/0.parquet",
    "events/day=2025-01-03/00000001.parquet.tmp",
    "predictions/as_of=20250120T000000Z/version=1.parquet.tmp",
    "predictions/run_as_of=20250120T000000Z/model_version=1/0.parquet",
    "users/0.parquet",
)


@pytest.mark.parametrize("has_tables", [True, False])
def test_files_of_killed_commands_are_deleted_from_the_lake(store: Store, has_tables: bool) -> None:
    """Of this release and of earlier ones, also where no command has committed a table."""
    if has_tables:
        put(store, 1, [event(1, 1, user_id=OTHER_USER)])
        sync(store)
        scored = predictions_of(OTHER_USER, as_of=AS_OF)
        write_lake_predictions(store.settings.lake_url, scored, as_of=AS_OF, version="1")
    lake = Path(store.settings.lake_url)
    for stray in STRAYS:
        (lake / stray).parent.mkdir(parents=True, exist_ok=True)
        (lake / stray).write_bytes(b"rows of user 7")
    erasure.erase(store, ERASED)
    assert [stray for stray in STRAYS if (lake / stray).exists()] == []
    assert sync(store).rows == int(has_tables)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.06, 0.1])
def test_a_killed_erasure_is_completed_by_the_next_run(shop: Store, seconds: float) -> None:
    ForkedProcess.start(erase_user, shop.settings, ERASED).kill_after(seconds)
    erasure.erase(shop, ERASED)
    assert erasure.count_stored(shop, ERASED) == counts_by_place(0)
    assert erasure.count_stored(shop, OTHER_USER) == counts_by_place(1)
    assert [window["rows"] for window in shop.prediction_windows.find()] == [1, 1]
    assert stored_users(shop) == {OTHER_USER}
    assert sync(shop).rows == 15


MAPPED = {
    "shop": "name: my_shop\ncolumns: {user_id: kunde, event_time: zeit, event_type: was}\ndelimiter: ';'\n",
    "preset": "extends: rees46\ncolumns: {user_id: kunde}\ntime: ['%d.%m.%Y']\ndelimiter: ';'\n",
}
HEADERS = {
    "shop": "was;kunde;zeit;preis\n",
    "preset": "event_type;kunde;event_time;price;product_id;user_session\n",
}


def _ingest_refused_rows(store: Store, tmp_path: Path, name: str) -> None:
    (tmp_path / "map.yaml").write_text(MAPPED[name])
    rows = ["Kauf; K-2 ;soon;1,5", 'Kauf;"K ""2""";soon;K-2', "Kauf;K-3;soon;K-2"]
    file = tmp_path / "mapped.csv"
    tail = ";p;s\n" if name == "preset" else "\n"
    file.write_text(HEADERS[name] + "".join(row + tail for row in rows))
    report = ingest(store, [file], sources.from_mapping(tmp_path / "map.yaml"), at=AS_OF)
    assert report.quarantined == 3


@pytest.mark.parametrize("name", MAPPED)
def test_refused_rows_of_any_mapping_are_found_by_its_user_column(
    store: Store, tmp_path: Path, name: str
) -> None:
    _ingest_refused_rows(store, tmp_path, name)
    assert [erasure.count_stored(store, user)["quarantine"] for user in ("K-2", 'K "2"', "K-3", "soon")] == [
        1,
        1,
        1,
        0,
    ]
    assert erasure.erase(store, "K-2")["quarantine"] == 1
    remaining = [row["raw"].split(";")[1] for row in store.quarantine.find(sort=[("line", 1)])]
    assert remaining == ['"K ""2"""', "K-3"]


def test_refused_rows_are_found_by_the_cleaned_and_by_a_nested_id(store: Store, tmp_path: Path) -> None:
    log, nested = tmp_path / "log.csv", tmp_path / "log.jsonl"
    log.write_text("user_id,event_time,event_type\n17850.0,soon,search\n178501,soon,search\n")
    ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    nested.write_text('{"user": {"id": 17850.0}, "t": "soon"}\n{"user": {"id": 7}, "t": "soon"}\n')
    mapping = tmp_path / "map.yaml"
    mapping.write_text(
        "name: nested\ncolumns: {user_id: user.id, event_time: t}\nconstants: {event_type: search}\n"
    )
    ingest(store, [nested], sources.from_mapping(mapping), at=AS_OF)
    assert erasure.count_stored(store, "17850")["quarantine"] == 2
    assert erasure.count_stored(store, "7")["quarantine"] == 1


@pytest.mark.parametrize("name", ["lines.csv", "lines.jsonl"])
def test_refused_rows_whose_user_is_in_a_joined_file_are_found(
    store: Store, tmp_path: Path, name: str
) -> None:
    log, mapping, orders = tmp_path / name, tmp_path / "shop.yaml", tmp_path / "orders.csv"
    rows = [("1", "soon"), ("1.0", "later"), ("2", "soon"), ("3", "2025-01-01"), ("u1", "soon")]
    csv_text = "o,t\n" + "".join(f"{order},{time}\n" for order, time in rows)
    json_text = "".join(json.dumps({"o": order, "t": time}) + "\n" for order, time in rows)
    log.write_text(csv_text if name == "lines.csv" else json_text)
    orders.write_text("id,u\n1,u1\n2,u2\nu1,u4\n")
    mapping.write_text(
        "name: shop\ncolumns: {user_id: u, event_time: t, order_id: o}\nconstants: {event_type: purchase}\n"
        "join: {file: orders.csv, on: {o: id}, columns: [u]}\n"
    )
    assert ingest(store, [log], sources.from_mapping(mapping), at=AS_OF).quarantined == 5
    assert {"u1", "u2", "u4"} <= set(refused_user_ids(store))
    orders.write_text("id,u\n1,u5\n2,u2\n3,u3\nu1,u4\n")
    assert replay(store, sources.from_mapping(mapping), at=AS_OF).events_inserted == 1
    expected = {"u1": 2, "u5": 2, "u2": 1, "u3": 1, "u4": 1, "1": 0}
    assert {user: erasure.count_stored(store, user)["quarantine"] for user in expected} == expected
    assert erasure.erase(store, "u1")["quarantine"] == 2
    assert erasure.erase(store, "u3")["quarantine"] == 1
    assert store.quarantine.count_documents({}) == 2


def test_refused_rows_with_quotation_marks_in_a_file_without_quoting(store: Store, tmp_path: Path) -> None:
    fields = dict.fromkeys(TSV_COLUMNS, "")
    fields |= {"page_title": '"Sale', "user_id": "u-7", "collector_tstamp": "soon", "event": "page_view"}
    (tmp_path / "good.tsv").write_text(
        "\t".join((fields | {"collector_tstamp": "2025-01-01"}).values()) + "\n"
    )
    (tmp_path / "bad.tsv").write_text(
        "\t".join((fields | {"collector_tstamp": "2025-01-02"}).values()) + "\n" + "\t".join(fields.values())
    )
    files = [tmp_path / "good.tsv", tmp_path / "bad.tsv"]
    report = ingest(store, files, sources.get_preset("snowplow"), at=AS_OF)
    assert (report.events_inserted, report.quarantined) == (2, 1)
    assert erasure.count_stored(store, "u-7")["quarantine"] == 1
    assert erasure.count_stored(store, '"Sale')["quarantine"] == 0


def test_refused_rows_with_an_unclosed_quotation_mark(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        "user_id,event_time,event_type\n"
        'u-8,2025-01-01T10:00:00Z,view_item\n"u-8,2025-01-01T11:00:00Z,view_item\n'
    )
    report = ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    assert (report.events_inserted, report.quarantined) == (1, 1)
    assert erasure.count_stored(store, "u-8")["quarantine"] == 1


def test_refused_rows_are_found_by_ids_with_invisible_and_escaped_characters(
    store: Store, tmp_path: Path
) -> None:
    log, nested = tmp_path / "log.csv", tmp_path / "log.jsonl"
    log.write_text(
        'user_id,event_time,event_type\nK\u200b\u200b-\xfc\u2060,soon,search\n"\ufeffK-\xfc",soon,search\nK-\xfcx,soon,search\n'
        "178\u200b50.0,soon,search\n"
    )
    ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    nested.write_text(
        '{"user_id": "K\\u200B-\\u00FC", "event_time": "soon", "event_type": "search"}\n'
        '{"user_id": "\\u004b-\xfc", "event_time": "soon", "event_type": "search"}\n'
        '{"user_id": "a\\/\\ud83d\\ude00", "event_time": "soon", "event_type": "search"}\n'
    )
    ingest(store, [nested], sources.get_preset("canonical"), at=AS_OF)
    for user_id, rows in (("K-\xfc", 4), ("17850", 1), ("a/\U0001f600", 1), ("K", 0)):
        assert erasure.count_stored(store, user_id)["quarantine"] == rows
    assert erasure.erase(store, "K-\xfc")["quarantine"] == 4
    assert store.quarantine.count_documents({}) == 3


def test_refused_rows_of_windows_without_a_recorded_format(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(
        f"user_id,event_time,event_type,quantity\n{ERASED},soon,search,1\n{OTHER_USER},soon,search,{ERASED}\n"
    )
    ingest(store, [log], sources.get_preset("canonical"), at=AS_OF)
    store.ledger.update_many({"kind": "window"}, {"$unset": {"delimiter": "", "user_columns": ""}})
    assert (
        erasure.count_stored(store, ERASED)["quarantine"]
        == erasure.count_stored(store, OTHER_USER)["quarantine"]
        == 1
    )
    (tmp_path / "long.csv").write_text(f"user_id,event_time,event_type\n{ERASED},{'9' * 140_000},search\n")
    ingest(store, [tmp_path / "long.csv"], sources.get_preset("canonical"), at=AS_OF)
    assert erasure.count_stored(store, ERASED)["quarantine"] == 2


def test_an_audience_from_scores_before_the_erasure_is_refused(shop: Store) -> None:
    refuse_erased_users(shop, [ERASED, OTHER_USER])
    erasure.erase(shop, ERASED)
    with pytest.raises(DataError, match="1 users of this list have been erased"):
        refuse_erased_users(shop, [ERASED, OTHER_USER])
    refuse_erased_users(shop, [OTHER_USER])


def test_events_that_arrive_during_an_erasure_are_not_removed_from_the_lake_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another home ingests and synchronizes events of the user between MongoDB's part and the lake's."""
    put(store, 1, [event(1, 1, user_id=ERASED), event(2, 1, user_id=OTHER_USER)])
    sync(store)

    def arrive(settings: Settings, user_id: str, delete_stored: Callable[[str], object]) -> None:
        put(store, 2, [event(3, 2, user_id=ERASED), event(4, 2, user_id=OTHER_USER)])
        sync(store)
        erase_from_lake(settings, user_id, delete_stored)

    monkeypatch.setattr(erasure, "erase_from_lake", arrive)
    erasure.erase(store, ERASED)
    assert (erasure.count_stored(store, ERASED)["events"], sync(store).rows) == (0, 2)
    assert store.events.count_documents({}) == 2
