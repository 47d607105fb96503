"""Preset `ga4`: native and flattened exports give the same events."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources import Chunk
from retail_core.sources.file_columns import json_window, with_file_columns
from retail_core.sources.json_columns import JsonColumns
from retail_core.sources.json_tables import flat_json_lines
from retail_core.sources.raw_tables import WINDOW_ROWS
from tests import ga4_export
from tests.ga4_export import START, item, order, record
from tests.unit.sources.event_rows import read_rows

GA4 = sources.get_preset("ga4")


def _read(path: Path) -> Chunk:
    (chunk,) = sources.read_events(path, GA4)
    return chunk


def _json(tmp_path: Path, *records: ga4_export.Record) -> Chunk:
    return _read(ga4_export.write_json_lines(tmp_path / "log.json", records))


def _comparable(chunk: Chunk) -> pd.DataFrame:
    return chunk.events.sort_values("event_id").reset_index(drop=True)


def test_json_lines_and_parquet_give_equal_events(tmp_path: Path) -> None:
    """All fields, properties included."""
    records = ga4_export.shapes()
    from_json = _json(tmp_path, *records)
    from_parquet = _read(ga4_export.write_parquet(tmp_path / "log.parquet", records))
    pd.testing.assert_frame_equal(_comparable(from_json), _comparable(from_parquet))
    assert [(row.line, row.rule) for row in from_json.refused] == [
        (20, "missing"),
        (21, "missing"),
        (22, "missing"),
    ]
    assert [(row.line, row.rule) for row in from_parquet.refused] == [
        (row.line, row.rule) for row in from_json.refused
    ]


@pytest.mark.parametrize("separator", [".", "_"])
def test_a_flattened_csv_gives_the_same_ids(tmp_path: Path, separator: str) -> None:
    records = ga4_export.shapes()
    from_json = _json(tmp_path, *records)
    from_csv = _read(ga4_export.write_flat_csv(tmp_path / "log.csv", records, separator))
    ids = Counter(from_csv.events["event_id"])
    # Equal items of one event are two rows of a CSV that nothing tells apart.
    assert [count for count in ids.values() if count > 1] == [2]
    second_copies = set(from_json.events["event_id"]) - set(ids)
    assert len(second_copies) == 1
    assert set(ids) < set(from_json.events["event_id"])


def test_a_native_event_has_the_fields_of_the_preset(tmp_path: Path) -> None:
    purchase = order("purchase", "1.2", 0, "T1", [item(1, 19.9, 2), item(3, 5.0)])
    ga4_export.write_json_lines(tmp_path / "log.json", [purchase | {"user_id": "customer 7"}])
    shared = "currency=EUR session_id=1735725000 platform=WEB order_id=T1"
    page = '"event_params.page_location":"https://shop.test/p?a=1&b=0"'
    assert read_rows(tmp_path / "log.json", GA4) == [
        "customer 7 2025-01-01T10:00:00Z purchase item_id=SKU 1 category=Damen/1 price=19.90 quantity=2 "
        f'{shared} properties={{{page},"items.item_name":"Wäsche „1“ 👕","items.item_variant":"rot"}}',
        "customer 7 2025-01-01T10:00:00Z purchase item_id=SKU 3 category=Damen/3 price=5.00 "
        f'{shared} properties={{{page},"items.item_name":"Wäsche „3“ 👕","items.item_variant":"rot"}}',
        "link: 1.2 customer 7 2025-01-01T10:00:00Z",
    ]


def test_nothing_of_an_export_is_reported_as_unread_or_absent(tmp_path: Path) -> None:
    chunk = _json(tmp_path, *ga4_export.shapes())
    assert (chunk.unread_columns, chunk.absent_columns) == ((), ())
    (tmp_path / "log.json").write_text(
        '{"event_timestamp": "1735725600000000", "event_name": "a", "user_pseudo_id": "u", "mine": 1}\n'
    )
    assert _read(tmp_path / "log.json").unread_columns == ("mine",)


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"ecommerce": {"purchase_revenue": 12.5, "refund_value": 3.0}}, 1250),
        ({"event_params": [ga4_export.parameter("value", 7)]}, 700),
        ({"event_name": "refund", "ecommerce": {"purchase_revenue": 12.5, "refund_value": 3.0}}, 300),
        ({"event_name": "add_to_cart", "ecommerce": {"purchase_revenue": 12.5}}, None),
        ({"items": [item(1)], "ecommerce": {"purchase_revenue": 12.5}}, None),
        ({"items": [item(1, 2.0)], "ecommerce": {"purchase_revenue": 12.5}}, 200),
        ({"items": [None], "ecommerce": {"purchase_revenue": 12.5}}, 1250),
    ],
)
def test_the_value_of_an_event_is_the_price_of_orders_without_items(
    tmp_path: Path, fields: ga4_export.Record, price: int | None
) -> None:
    event = _json(tmp_path, record("purchase", "u", 0) | fields).events.iloc[0]
    assert (None if pd.isna(event["price_minor"]) else event["price_minor"]) == price


def test_events_of_one_microsecond_are_told_apart(tmp_path: Path) -> None:
    event = record("view_item", "u", 0, items=[item(1, 1.0)])
    other_session = event | {"event_params": [ga4_export.parameter("ga_session_id", 1)]}
    others = [
        event | {"batch_event_index": 2},
        event | {"batch_page_id": 2},
        event | {"event_name": "select_item"},
        event | {"user_pseudo_id": "u2"},
        event | {"event_timestamp": START + 1},
        event | {"items": [item(2, 1.0)]},
        other_session,
    ]
    assert _json(tmp_path, event, *others).events["event_id"].nunique() == 8


def test_events_of_one_batch_without_positions_are_told_apart_by_their_parameters(tmp_path: Path) -> None:
    """Exports from before 2024 have no position, and one time for all events of a batch."""
    event = record("search", "u", 0, batch_event_index=None, batch_page_id=None, batch_ordering_id=None)
    terms = [
        event | {"event_params": [*event["event_params"], ga4_export.parameter("search_term", term)]}
        for term in ("shoes", "socks", 7, 7.5)
    ]
    records = [event, *terms, terms[0] | {"event_params": terms[0]["event_params"][::-1]}]
    ids = _json(tmp_path, *records, *ga4_export.intraday(records)).events["event_id"].tolist()
    assert (len(set(ids)), ids[5], ids[6:]) == (5, ids[1], ids[:6])
    parquet = _read(ga4_export.write_parquet(tmp_path / "log.parquet", records))
    assert parquet.events["event_id"].tolist() == ids[:6]


def test_the_streamed_copy_of_an_event_has_its_id(tmp_path: Path) -> None:
    records = ga4_export.shapes()
    daily = _json(tmp_path, *records).events["event_id"].tolist()
    assert _json(tmp_path, *ga4_export.intraday(records)).events["event_id"].tolist() == daily


@pytest.mark.parametrize("write", [ga4_export.write_json_lines, ga4_export.write_parquet])
def test_each_event_leads_back_to_its_raw_row(
    tmp_path: Path, write: Callable[[Path, list[ga4_export.Record]], Path]
) -> None:
    """Also where a window is read in slices, and items and refused rows shift the numbers of records."""
    records = [*ga4_export.random_records(700), *ga4_export.shapes()]
    for row in range(0, 700, 90):
        records[row]["user_pseudo_id"] = None
    chunk = _read(write(tmp_path / "log", records))
    for position, (line, user) in enumerate(zip(chunk.lines, chunk.events["user_id"], strict=True)):
        raw = json.loads(chunk.raw(position))
        assert int(raw["event_timestamp"]) == records[line - 1]["event_timestamp"]
        assert user in {raw["user_pseudo_id"], raw.get("user_id")}
    refused = {row.line: json.loads(row.raw) for row in chunk.refused}
    assert set(range(1, 701, 90)) <= set(refused)
    for line, raw in refused.items():
        assert int(raw["event_timestamp"]) == records[line - 1]["event_timestamp"]


def test_columns_that_nothing_reads_are_not_made_into_text(tmp_path: Path) -> None:
    """Writing nested values as text would take longer than everything else."""
    path = ga4_export.write_json_lines(tmp_path / "log.json", ga4_export.shapes())
    lines = path.read_text().splitlines(keepends=True)
    table = with_file_columns(flat_json_lines(lines, 0), GA4)
    assert isinstance(table.columns, JsonColumns)
    window = json_window(lines, 0, GA4)
    assert {"device", "geo", "user_properties", "event_params", "items"}.isdisjoint(window.columns)
    assert {"device", "event_params", "items"} <= set(window.file_columns or ())


def test_ids_of_native_events_never_change(tmp_path: Path) -> None:
    event = order("purchase", "1.2", 0, "T1", [item(1, 19.9, 2)])
    assert _json(tmp_path, event).events["event_id"].tolist() == ["22ef4cc3720a1187b5b755ab48c980bb"]


def test_reading_continues_after_a_window(tmp_path: Path) -> None:
    """Also where the first lines lack a user, which needs a look at the lines after them."""
    first = [record("page_view", None, n) for n in range(3)]
    rest = [record("page_view", "u", 10 + n, event_params=[], device=None) for n in range(WINDOW_ROWS)]
    path = ga4_export.write_json_lines(tmp_path / "log.json", [*first, *rest])
    chunks = list(sources.read_events(path, GA4))
    assert sum(chunk.rows_read for chunk in chunks) == len(first) + len(rest)
    for skip in (2, chunks[0].last):
        read = list(sources.read_events(path, GA4, skip=skip))
        assert read[0].first == skip + 1
        assert sum(chunk.rows_read for chunk in read) == len(first) + len(rest) - skip


def test_a_mapping_can_extend_the_preset(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "extends: ga4\nname: shop\nrepeats: duplicates\nidentity: [event_timestamp, user_pseudo_id]\n"
        "columns: {brand: 'items[].item_params[key=colour].value.string_value'}\n"
    )
    path = ga4_export.write_json_lines(
        tmp_path / "log.json", [record("view_item", "u", 0, items=[item(3, 1.0)])]
    )
    (chunk,) = sources.read_events(path, sources.from_mapping(mapping))
    assert chunk.events["brand"].tolist() == ["blue"]
    assert not chunk.once_per_order


def test_a_mapping_cannot_split_rows_by_a_second_list(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("extends: ga4\nname: shop\ncolumns: {brand: 'user_properties[].value.string_value'}\n")
    with pytest.raises(InputError, match="by one list only, not by items and user_properties"):
        sources.from_mapping(mapping)


def test_once_per_order_needs_an_order_id(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        "name: shop\ncolumns: {user_id: u, event_time: t, event_type: e}\nrepeats: once_per_order\n"
    )
    with pytest.raises(InputError, match="which column is order_id"):
        sources.from_mapping(mapping)
    mapping.write_text(mapping.read_text().replace("e}", "e, order_id: o}"))
    assert sources.from_mapping(mapping).identity.repeats == "once_per_order"
