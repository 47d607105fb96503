"""A native Google Analytics export in MongoDB, against what its nested records say in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from retail_core import sources
from retail_core.ingest import IngestReport, ingest, replay
from retail_core.ingest.undo import undo
from retail_core.privacy.erasure import count_stored, erase
from retail_core.sources.compressed_files import content_hash
from retail_core.store.mongo.connection import Document, Store
from tests import ga4_export
from tests.ga4_export import Record

pytestmark = pytest.mark.integration

AT = datetime(2025, 3, 1, tzinfo=UTC)
GA4 = sources.get_preset("ga4")
Row = tuple[object, ...]


@dataclass
class ExpectedShop:
    """What records contain, computed from the nested objects alone.

    Attributes:
        rows: number of events by user, time in ms, type, item, price in cents, quantity, order, session,
            currency and category.
        spend: net spend in cents by user.
        events: ids of records and items that are stored.
        orders: time of the purchase of each user and order.
        counts: rows read, inserted, duplicates, in quarantine.
    """

    rows: Counter[Row] = field(default_factory=Counter)
    spend: Counter[str] = field(default_factory=Counter)
    events: set[Row] = field(default_factory=set)
    orders: dict[tuple[str, str], int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, records: Iterable[Record]) -> ExpectedShop:
        """Add the records of a file."""
        for record in records:
            self._add_record(record)
        return self

    def _add_record(self, record: Record) -> None:
        user = user_of(record)
        if user is None:
            self.counts["quarantined"] += 1
            return
        order = known((record["ecommerce"] or {}).get("transaction_id"))
        at, name = record["event_timestamp"], record["event_name"]
        batch = [record[f"batch_{part}"] for part in ("event_index", "page_id", "ordering_id")]
        identity: Row = (at, name, user, record["event_bundle_sequence_id"], *batch)
        is_purchase = name == "purchase" and order is not None
        first = self.orders.setdefault((user, str(order)), at) if is_purchase else at
        seen: Counter[str] = Counter()
        for item in record["items"] or [None]:
            seen[repr(item)] += 1
            key: Row = (*identity, repr(item), seen[repr(item)])
            if first != at or key in self.events:
                self.counts["duplicates"] += 1
                continue
            self.events.add(key)
            self.counts["inserted"] += 1
            self._add_event(record, item or {}, order)

    def _add_event(self, record: Record, item: Record, order: str | None) -> None:
        name, user = record["event_name"], str(user_of(record))
        price = item.get("price")
        if not item and name in {"purchase", "refund"}:
            totals = record["ecommerce"] or {}
            price = totals.get("purchase_revenue", totals.get("refund_value", parameter(record, "value")))
        cents = None if price is None else round(float(price) * 100)
        row = (
            user,
            record["event_timestamp"] // 1000,
            name,
            item.get("item_id"),
            cents,
            item.get("quantity"),
            order,
            parameter(record, "ga_session_id"),
            parameter(record, "currency"),
            item.get("item_category"),
        )
        self.rows[row] += 1
        sign = {"purchase": 1, "refund": -1}.get(name, 0)
        if sign and cents is not None:
            self.spend[user] += sign * cents * (item.get("quantity") or 1)


def user_of(record: Record) -> str | None:
    """The id that the user is known by, else that of the browser or device."""
    ids = (record["user_id"], record["user_pseudo_id"])
    return next((user for user in ids if user not in {None, "", "(not set)"}), None)


def known(text: str | None) -> str | None:
    return None if text == "(not set)" else text


def parameter(record: Record, key: str) -> str | None:
    """The text of the first parameter of that name."""
    for entry in record["event_params"] or []:
        if entry["key"] == key:
            return str(next(iter((entry["value"] or {}).values()), None))
    return None


def stored_rows(store: Store) -> Counter[Row]:
    return Counter(map(stored_row, store.events.find()))


def stored_row(event: Document) -> Row:
    at = event["event_time"].replace(tzinfo=UTC).timestamp()
    names = ("item_id", "price_minor", "quantity", "order_id", "session_id", "currency", "category")
    return (event["user_id"], round(at * 1000), event["event_type"], *map(event.get, names))


def stored_spend(store: Store) -> Counter[str]:
    spend: Counter[str] = Counter()
    for event in store.events.find({"event_type": {"$in": ["purchase", "refund"]}}):
        if (price := event.get("price_minor")) is not None:
            sign = 1 if event["event_type"] == "purchase" else -1
            spend[event["user_id"]] += sign * price * event.get("quantity", 1)
    return spend


def counts(*reports: IngestReport) -> Mapping[str, int]:
    return {
        "inserted": sum(report.events_inserted for report in reports),
        "duplicates": sum(report.duplicates for report in reports),
        "quarantined": sum(report.quarantined for report in reports),
    }


def assert_ledger_adds_up(store: Store) -> None:
    for window in store.ledger.find({"kind": "window"}):
        assert window["counts"]["inserted"] == store.events.count_documents(
            {"window_id": window["window_id"]}
        )


def test_json_lines_give_what_the_records_contain(store: Store, tmp_path: Path) -> None:
    """An intraday table, then the complete day with later events."""
    records = [*ga4_export.shapes(), *ga4_export.random_records(500)]
    streamed = ga4_export.intraday(records[:16])
    files = [
        ga4_export.write_json_lines(tmp_path / "intraday.json", streamed),
        ga4_export.write_json_lines(tmp_path / "daily.json", records),
    ]
    first, second = (ingest(store, [file], GA4, at=AT) for file in files)
    expected = ExpectedShop().add(streamed).add(records)
    # The parameters of this export do not repeat the transaction id that the streamed copies lack.
    assert stored_rows(store) == expected.rows
    assert stored_spend(store) == expected.spend
    assert counts(first, second) == expected.counts
    for report in (first, second):
        parts = (report.events_inserted, report.duplicates, report.quarantined)
        assert report.rows_read == sum(parts)
        assert report.summary["unread_columns"] == []
        assert report.warnings == []
    assert second.quarantined == store.quarantine.count_documents({}) == 3
    assert_ledger_adds_up(store)
    assert ingest(store, files, GA4, at=AT).skipped_files == 2


def test_parquet_and_flattened_csv_of_ingested_json_lines_add_nothing(store: Store, tmp_path: Path) -> None:
    records = ga4_export.shapes()
    ingest(store, [ga4_export.write_json_lines(tmp_path / "a.json", records)], GA4, at=AT)
    before = stored_rows(store)
    for name, write in (
        ("a.parquet", ga4_export.write_parquet),
        ("a.csv", ga4_export.write_flat_csv),
    ):
        report = ingest(store, [write(tmp_path / name, records)], GA4, at=AT)
        assert (report.events_inserted, report.quarantined) == (0, 3 if name == "a.parquet" else 5)
    assert stored_rows(store) == before == ExpectedShop().add(records).rows


def test_parquet_alone_gives_what_the_records_contain(store: Store, tmp_path: Path) -> None:
    records = [*ga4_export.shapes(), *ga4_export.random_records(300, seed=8)]
    report = ingest(store, [ga4_export.write_parquet(tmp_path / "a", records)], GA4, at=AT)
    expected = ExpectedShop().add(records)
    assert stored_rows(store) == expected.rows
    assert stored_spend(store) == expected.spend
    assert counts(report) == expected.counts


def _purchases(seconds: Iterable[int], order: str = "T", user: str = "u", price: float = 5.0) -> list[Record]:
    items = [ga4_export.item(number, price, 1) for number in range(2)]
    return [ga4_export.order("purchase", user, second, order, items) for second in seconds]


def _ingest(store: Store, path: Path, records: list[Record], **options: Any) -> IngestReport:
    return ingest(store, [ga4_export.write_json_lines(path, records)], GA4, at=AT, **options)


def _times(store: Store) -> list[int]:
    times = store.events.distinct("event_time")
    return sorted(round(at.replace(tzinfo=UTC).timestamp()) - ga4_export.START // 10**6 for at in times)


def test_an_order_is_stored_once_over_files(store: Store, tmp_path: Path) -> None:
    """Of one file the earliest purchase, of several files the one that was stored first."""
    first = _ingest(store, tmp_path / "a", _purchases([30, 20]))
    second = _ingest(store, tmp_path / "b", _purchases([10, 20]) + _purchases([12], "other"))
    assert (first.events_inserted, first.duplicates) == (2, 2)
    assert (second.events_inserted, second.duplicates) == (2, 4)
    assert _times(store) == [12, 20]
    assert store.events.count_documents({"order_id": "T"}) == 2
    assert_ledger_adds_up(store)


def test_a_purchase_stays_when_the_file_that_brought_it_first_is_undone(store: Store, tmp_path: Path) -> None:
    _ingest(store, tmp_path / "a", _purchases([20]))
    _ingest(store, tmp_path / "b", _purchases([30]))
    file = store.ledger.find_one({"kind": "file", "file": "a"}) or {}
    undo(store, file["_id"], at=AT)
    assert store.events.count_documents({"order_id": "T"}) == 2
    assert_ledger_adds_up(store)


def test_a_purchase_of_a_killed_run_is_adopted_with_its_order(store: Store, tmp_path: Path) -> None:
    """Its window may never be committed, so the next file that has the order counts it as its own."""
    killed = ga4_export.write_json_lines(tmp_path / "killed", _purchases([20]))
    ingest(store, [killed], GA4, at=AT)
    store.ledger.update_many({"kind": "window"}, {"$set": {"state": "open"}, "$unset": {"counts": ""}})
    store.ledger.update_many({"kind": "file"}, {"$set": {"state": "running", "lease": None}})
    for _ in range(2):
        report = _ingest(store, tmp_path / "b", _purchases([30]))
        assert store.events.count_documents({}) == 2
    assert report.skipped_files == 1
    window = store.ledger.find_one({"kind": "window", "counts": {"$exists": True}}) or {}
    assert window["counts"] == {"rows_read": 2, "inserted": 2, "duplicates": 0, "quarantined": 0}
    assert store.events.count_documents({"window_id": window["window_id"]}) == 2


def test_a_file_of_release_0_1_0_is_neither_stored_again_nor_refused(store: Store, tmp_path: Path) -> None:
    """The former preset had other options, and ids of all parsed fields without items."""
    records = ga4_export.shapes()[1:4] + _purchases([20])
    path = ga4_export.write_json_lines(tmp_path / "a", records)
    (chunk,) = sources.read_events(path, GA4)
    assert GA4.v1_reading is not None
    before = GA4.v1_reading
    events = [
        {"_id": v1_id, "user_id": user, "event_type": "view_item", "source": "ga4", "window_id": 1}
        for v1_id, user in dict(zip(chunk.v1_ids(), chunk.events["user_id"], strict=True)).items()
    ]
    assert len(events) == len(records)
    store.events.insert_many([event | {"event_time": AT} for event in events])
    content = ga4_file(path, before.options_hash())
    store.ledger.insert_many([content, {"_id": "window:1", "window_id": 1, "file_id": content["_id"]}])
    assert before.options_hash() != GA4.options_hash()
    assert ingest(store, [path], GA4, at=AT).skipped_files == 1
    longer = _ingest(store, tmp_path / "longer", records + _purchases([50], "T9"))
    assert (longer.events_inserted, longer.duplicates) == (2, len(chunk.events))


def ga4_file(path: Path, options: str) -> Document:
    """The ledger's document as release 0.1.0 wrote it."""
    sha256 = content_hash(path)
    return {
        "_id": f"file:{sha256}:ga4:{options}",
        "kind": "file",
        "state": "done",
        "lease": None,
        "file": path.name,
        "path": str(path),
        "sha256": sha256,
        "source": "ga4",
        "timezone": "UTC",
        "policy": None,
        "started_at": AT,
        "counts": {"rows_read": 4, "inserted": 4, "duplicates": 0, "quarantined": 0},
    }


def test_refused_rows_are_found_and_replayed_by_a_path(store: Store, tmp_path: Path) -> None:
    """A user id inside a list of parameters: erasure and replay read it by its path."""
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "name: shop\ncolumns:\n  user_id: 'event_params[key=page_location].value.string_value'\n"
        "  event_time: event_timestamp\n  event_type: event_name\n  item_id: items[].item_id\ntime: iso\n"
    )
    shapes = ga4_export.shapes()
    path = ga4_export.write_json_lines(tmp_path / "a", [shapes[3], shapes[6]])
    report = ingest(store, [path], sources.from_mapping(mapping), at=AT)
    assert counts(report) == {"inserted": 0, "duplicates": 0, "quarantined": 2}
    user = "https://shop.test/p?a=1&b=3"
    assert count_stored(store, user)["quarantine"] == 1
    assert erase(store, user)["quarantine"] == 1
    mapping.write_text(mapping.read_text().replace("time: iso", "time: unix_us"))
    replayed = replay(store, sources.from_mapping(mapping), at=AT)
    assert (replayed.rows, replayed.events_inserted) == (1, 1)
    assert store.events.distinct("user_id") == ["https://shop.test/p?a=1&b=5"]
