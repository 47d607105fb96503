"""Event ids: which rows are the same event, and that stored ids never change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retail_core import sources
from retail_core.sources import Chunk, Source
from retail_core.sources.event_ids import RepeatCounter, number_repeats
from retail_core.sources.raw_tables import WINDOW_ROWS

HEADER = "customer,day,article,price,note\n"
MAPPING = """\
name: shop
columns: {user_id: customer, event_time: day, item_id: article, price: price}
constants: {event_type: purchase}
"""


def _source(tmp_path: Path, more: str = "") -> Source:
    path = tmp_path / "map.yaml"
    path.write_text(MAPPING + more)
    return sources.from_mapping(path)


def _file(tmp_path: Path, text: str, name: str = "log.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def _ids(tmp_path: Path, source: Source, text: str) -> list[str]:
    chunks = sources.read_events(_file(tmp_path, text), source)
    return [event_id for chunk in chunks for event_id in chunk.events["event_id"]]


def _only(tmp_path: Path, source: Source, text: str) -> Chunk:
    (chunk,) = sources.read_events(_file(tmp_path, text), source)
    return chunk


def test_rows_that_differ_only_in_an_unread_column_are_two_events(tmp_path: Path) -> None:
    rows = "c1,2025-01-01,a1,1.50,till 1\nc1,2025-01-01,a1,1.50,till 2\nc1,2025-01-01,a1,1.50,till 1\n"
    first, second, third = _ids(tmp_path, _source(tmp_path), HEADER + rows)
    assert first == third != second


def test_the_id_of_a_row_depends_on_neither_column_order_nor_empty_columns(tmp_path: Path) -> None:
    source = _source(tmp_path)
    (plain,) = _ids(tmp_path, source, HEADER + "c1,2025-01-01,a1,1.50,x\n")
    (moved,) = _ids(tmp_path, source, "note,empty,price,article,day,customer\nx,,1.50,a1, 2025-01-01 ,c1\n")
    assert plain == moved


def test_the_id_of_a_row_does_not_depend_on_how_it_is_read(tmp_path: Path) -> None:
    row = HEADER + "c1,2025-01-01,a1,1.50,x\n"
    ids = [
        _ids(tmp_path, _source(tmp_path, more), row)
        for more in ("", "timezone: Asia/Tokyo\n", "properties: [note]\n")
    ]
    assert ids[0] == ids[1] == ids[2]


def test_identity_columns_replace_the_row(tmp_path: Path) -> None:
    source = _source(tmp_path, "identity: [customer, article]\n")
    rows = "c1,2025-01-01,a1,1.50,\nc1,2025-01-01,a1,2.50,corrected\nc1,2025-01-01,a2,1.50,\n"
    first, second, third = _ids(tmp_path, source, HEADER + rows)
    assert first == second != third


def test_a_row_without_any_identity_column_is_identified_by_the_whole_row(tmp_path: Path) -> None:
    source = _source(tmp_path, "identity: [receipt]\n")
    rows = "c1,2025-01-01,a1,1.50,\nc1,2025-01-01,a1,2.50,\n"
    first, second = _ids(tmp_path, source, HEADER + rows)
    assert first != second


def test_intraday_and_daily_copies_of_a_ga4_event_have_one_id(tmp_path: Path) -> None:
    header = "event_timestamp,event_name,user_pseudo_id,items.item_id,items.price,ecommerce.transaction_id"
    row = "1735725600123456,purchase,u10,A,5,"
    ga4 = sources.get_preset("ga4")
    intraday = _ids(tmp_path, ga4, f"{header}\n{row}\n{row.replace(',A,', ',B,')}\n")
    (daily,) = _ids(tmp_path, ga4, f"{header}\n{row}T1\n")
    assert daily == intraday[0] != intraday[1]


def test_counted_repeats_are_events_of_their_own_with_stable_ids(tmp_path: Path) -> None:
    row = "c1,2025-01-01,a1,0.05,\n"
    source = _source(tmp_path, "repeats: count\n")
    ids = _ids(tmp_path, source, HEADER + row * 3 + "c2,2025-01-01,a1,0.05,\n")
    assert len(set(ids)) == 4
    assert _ids(tmp_path, source, HEADER + row * 2) == ids[:2]
    assert _ids(tmp_path, _source(tmp_path), HEADER + row) == ids[:1]


def test_repeats_are_counted_over_windows_also_after_a_resume(tmp_path: Path) -> None:
    rows = ["c1,2025-01-01,a1,0.05,\n"] * (WINDOW_ROWS + 10)
    source, path = _source(tmp_path, "repeats: count\n"), _file(tmp_path, HEADER + "".join(rows))
    chunks = list(sources.read_events(path, source))
    ids = [event_id for chunk in chunks for event_id in chunk.events["event_id"]]
    assert len(set(ids)) == len(rows)
    (last,) = sources.read_events(path, source, skip=chunks[0].last)
    assert last.events["event_id"].tolist() == chunks[1].events["event_id"].tolist()


def test_the_counter_numbers_occurrences_in_order() -> None:
    counter = RepeatCounter()
    a, b, c = ("a" * 32, "b" * 32, "c" * 32)
    assert counter.numbers([b, a, b]).tolist() == [1, 1, 2]
    assert counter.numbers([c, b, a, a, b]).tolist() == [1, 3, 2, 3, 4]
    assert number_repeats([a, a], np.array([1, 2]))[0] == a


@pytest.mark.parametrize(
    ("preset", "text", "event_id"),
    [
        (
            "canonical",
            "user_id,event_time,event_type,price\nu1,2025-01-01T00:00:00Z,view_item,1.5\n",
            "5a79cd8626121049a940523f72868d84",
        ),
        ("taobao", "1,2,3,pv,1511544070\n", "ce41d3f3b4744c3e296f44c87cc43620"),
    ],
)
def test_stored_ids_never_change(tmp_path: Path, preset: str, text: str, event_id: str) -> None:
    """The ids are those of release 0.1.0."""
    chunk = _only(tmp_path, sources.get_preset(preset), text)
    assert chunk.v1_ids() == [event_id]


def test_a_row_with_its_own_id_has_no_earlier_id(tmp_path: Path) -> None:
    text = "event_id,user_id,event_time,event_type\na,u1,2025-01-01,view_item\n,u1,2025-01-01,view_item\n"
    chunk = _only(tmp_path, sources.get_preset("canonical"), text)
    first, second = chunk.v1_ids()
    assert first is None
    assert second == chunk.events["event_id"][1]
