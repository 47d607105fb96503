"""An order that is in a log twice, in one file, two files or two windows, is one purchase of each item."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.ingest import ingest, undo
from retail_core.ingest.request_events import store_events
from retail_core.sources.source import Source
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ingested_files import find_file

pytestmark = pytest.mark.integration

EXPORTS = Path(__file__).resolve().parents[1] / "unit" / "sources" / "vendor_exports"
AT = datetime(2025, 3, 9, tzinfo=UTC)
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
ITEMS = ["a", "a", "b"]
FLAT = """
name: flat
columns: {event_id: id, user_id: user, event_time: at, order_id: order, item_id: item, quantity: pieces}
constants: {event_type: purchase}
repeats: once_per_order
"""


def _spec(items: list[str]) -> dict[str, object]:
    return {
        "order_id": "o-1",
        "products": [{"product_id": item, "price": 5, "quantity": 1} for item in items],
    }


def _segment(key: str, items: list[str]) -> Document:
    at = NOON.isoformat()
    call = {"userId": "u-1", "messageId": key, "type": "track", "event": "Order Completed", "timestamp": at}
    return call | {"properties": _spec(items)}


def _posthog(key: str, items: list[str]) -> Document:
    at, names = NOON.isoformat(), {"event": "Order Completed", "distinct_id": "u-1"}
    return names | {"uuid": key, "timestamp": at, "properties": _spec(items)}


def _ga4(key: str, items: list[str]) -> Document:
    event = {"event_name": "purchase", "user_pseudo_id": "u-1", "event_bundle_sequence_id": key}
    goods = [{"item_id": item, "price": 5, "quantity": 1} for item in items]
    at = int(NOON.timestamp() * 1_000_000)
    return event | {"event_timestamp": at, "ecommerce": {"transaction_id": "o-1"}, "items": goods}


MESSAGES = {"segment": _segment, "posthog": _posthog, "ga4": _ga4}


def _lines(source: str, *messages: tuple[str, list[str]]) -> list[str]:
    return [json.dumps(MESSAGES[source](key, items)) for key, items in messages]


def _purchases(store: Store) -> Counter[str]:
    return Counter(event["item_id"] for event in store.events.find({"event_type": "purchase"}))


def _ingest(store: Store, folder: Path, source: Source | str, *files: list[str]) -> list[tuple[int, int]]:
    """Inserted events and duplicates of each file."""
    dialect = sources.get_preset(source) if isinstance(source, str) else source
    counts = []
    for number, lines in enumerate(files):
        path = folder / f"log{number}"
        path.write_text("\n".join(lines) + "\n")
        report = ingest(store, [path], dialect, at=AT)
        assert report.rows_read == report.events_inserted + report.duplicates
        counts.append((report.events_inserted, report.duplicates))
    return counts


def _undo(store: Store, path: Path) -> None:
    file = find_file(store, path.name, None)
    assert file is not None
    undo(store, file["_id"], at=AT)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of two lines."""
    monkeypatch.setattr("retail_core.sources.raw_tables.WINDOW_ROWS", 2)


@pytest.mark.parametrize("source", MESSAGES)
def test_a_message_sent_again_in_the_file_adds_no_purchase(store: Store, tmp_path: Path, source: str) -> None:
    lines = _lines(source, ("1", ITEMS), ("2", ITEMS), ("3", ["b"]))
    assert _ingest(store, tmp_path, source, lines) == [(3, 4)]
    assert _purchases(store) == Counter(ITEMS)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("source", MESSAGES)
def test_a_message_sent_again_in_another_window_adds_no_purchase(
    store: Store, tmp_path: Path, source: str
) -> None:
    lines = _lines(source, ("1", ITEMS), ("2", ["b"]), ("3", ITEMS), ("4", ITEMS))
    assert _ingest(store, tmp_path, source, lines) == [(3, 7)]
    assert _purchases(store) == Counter(ITEMS)


@pytest.mark.parametrize("source", MESSAGES)
def test_a_message_sent_again_in_another_file_adds_no_purchase(
    store: Store, tmp_path: Path, source: str
) -> None:
    first, again = _lines(source, ("1", ITEMS)), _lines(source, ("2", ITEMS))
    both = _lines(source, ("1", ITEMS), ("3", ITEMS))
    assert _ingest(store, tmp_path, source, first, again, both) == [(3, 0), (0, 3), (0, 6)]
    assert _purchases(store) == Counter(ITEMS)
    for path in ("log0", "log1"):
        _undo(store, tmp_path / path)
        assert _purchases(store) == Counter(ITEMS), "the last file has the order too"
    _undo(store, tmp_path / "log2")
    assert not _purchases(store)


def test_a_further_message_of_an_order_adds_the_items_that_it_has_more_of(
    store: Store, tmp_path: Path
) -> None:
    lines = _lines("segment", ("1", ["a"]), ("2", ["a", "c"]), ("3", ["a", "a"]))
    assert _ingest(store, tmp_path, "segment", lines) == [(3, 2)]
    assert _purchases(store) == {"a": 2, "c": 1}


def test_another_order_or_user_of_the_same_time_is_no_repeat(store: Store, tmp_path: Path) -> None:
    first = _lines("segment", ("1", ["a"]))[0]
    lines = [first, first.replace('"1"', '"2"').replace("o-1", "o-2"), first.replace('"1"', '"3"')]
    lines[2] = lines[2].replace("u-1", "u-2")
    assert _ingest(store, tmp_path, "segment", lines) == [(3, 0)]


def test_a_request_with_a_message_sent_again_adds_no_purchase(store: Store) -> None:
    for key, inserted in (("1", 3), ("2", 0)):
        stored = store_events(store, [_segment(key, ITEMS)], sources.get_preset("segment"))
        assert (stored.counts.inserted, stored.counts.duplicates) == (inserted, 3 - inserted)


def test_rows_of_one_item_each_are_repeats_if_only_their_ids_differ(store: Store, tmp_path: Path) -> None:
    mapping = tmp_path / "flat.yaml"
    mapping.write_text(FLAT)
    row = "{},u-1,2025-03-01,o-1,{},{}"
    header = "id,user,at,order,item,pieces"
    lines = [header, row.format(1, "a", 1), row.format(2, "a", 2), row.format(3, "a", 1)]
    flat = sources.from_mapping(mapping)
    assert _ingest(store, tmp_path, flat, lines, [header, row.format(4, "a", 2)]) == [(2, 1), (0, 1)]


def test_flattened_rows_of_one_event_are_all_stored(store: Store, tmp_path: Path) -> None:
    names = "event_timestamp event_name user_pseudo_id transaction_id item_id item_variant"
    header = ",".join([*names.split(), "event_bundle_sequence_id"])
    row = f"{int(NOON.timestamp() * 1_000_000)},purchase,u-1,o-1,a,{{}},{{}}"
    lines = [header, row.format("S", 1), row.format("M", 1), row.format("S", 2), row.format("M", 2)]
    assert _ingest(store, tmp_path, "ga4", lines) == [(2, 2)]


APPENDED = (
    "shopify.csv", "woocommerce.csv", "shopify-rest.jsonl", "shopify-graphql.jsonl", "woocommerce-rest.jsonl",
)  # fmt: skip


def _later(text: str) -> str:
    for before, after in (
        (",paid,", ",partially_refunded,"), (",completed,", ",refunded,"), ('"completed"', '"refunded"'),
    ):  # fmt: skip
        text = text.replace(before, after)
    return text


@pytest.mark.parametrize("rows", [25_000, 2, 3])
@pytest.mark.parametrize("name", APPENDED)
def test_an_export_appended_to_an_earlier_one_adds_no_event(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    monkeypatch.setattr("retail_core.sources.raw_tables.WINDOW_ROWS", rows)
    source, text = sources.get_preset(Path(name).stem.partition("-")[0]), (EXPORTS / name).read_text()
    header, body = text.split("\n", 1) if name.endswith(".csv") else ("", text)
    path = tmp_path / name
    path.write_text(text)
    alone = ingest(store, [path], source, at=AT)
    before = {event["_id"] for event in store.events.find({}, {"_id": 1})}
    _undo(store, path)
    path.write_text(f"{header}\n{body}{_later(body)}{body}".lstrip("\n"))
    report = ingest(store, [path], source, at=AT)
    after = {event["_id"] for event in store.events.find({}, {"_id": 1})}
    new_refunds = store.events.count_documents({"_id": {"$in": list(after - before)}, "event_type": "refund"})
    assert before <= after
    assert new_refunds == len(after - before) == report.events_inserted - alone.events_inserted
    assert report.duplicates == report.rows_read - report.events_inserted - report.quarantined


def test_equal_rows_of_an_order_are_all_stored_and_none_again(store: Store, tmp_path: Path) -> None:
    header, *rows = (EXPORTS / "shopify.csv").read_text().splitlines()
    order = [row for row in rows if row.startswith("#1006")]
    settled = [row.replace(",authorized,", ",paid,") for row in order]
    assert _ingest(store, tmp_path, "shopify", [header, *order, *order, *settled, *order[:1]]) == [(2, 5)]
