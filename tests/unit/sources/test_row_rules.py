"""Filters, fill-down and refunds: every row that is not read is counted, whatever window it is in."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.sources import Chunk, Source
from retail_core.sources.parse_notes import merge_notes
from retail_core.sources.raw_tables import WINDOW_ROWS
from tests.unit.sources.event_rows import note_rows, read_rows

COLUMNS = "name: shop\ncolumns: {user_id: u, event_time: t}\nconstants: {event_type: purchase}\n"


def _source(tmp_path: Path, text: str) -> Source:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(text)
    return sources.from_mapping(mapping)


def _log(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


def test_filters_count_each_row_once_by_the_first_condition_that_it_fails(tmp_path: Path) -> None:
    log = _log(
        tmp_path,
        "u,t,shop,agent\n"
        "u1,2025-01-01,de,Chrome\n"
        "u2,2025-01-01,,Googlebot/2.1\n"
        "u3,2025-01-01,fr,Googlebot/2.1\n"
        "u4,2025-01-01,de,a.b*c\n"
        "u5,2025-01-01,NULL,\n",
    )
    source = _source(tmp_path, COLUMNS + 'where: {shop: [de, null]}\ndrop: {agent: ["*bot*", "a.b*c"]}\n')
    assert read_rows(log, source) == [
        "u1 2025-01-01T00:00:00Z purchase",
        "u5 2025-01-01T00:00:00Z purchase",
        "filtered: shop keep 1",
        "filtered: agent drop 2",
    ]


def test_a_filtered_row_is_not_read_however_broken_it_is(tmp_path: Path) -> None:
    log = _log(tmp_path, "u,t,test\n,never,1\nu1,2025-01-01,0\n")
    (chunk,) = sources.read_events(log, _source(tmp_path, COLUMNS + "drop: {test: 1}\n"))
    assert (chunk.rows_read, chunk.refused, chunk.lines.tolist()) == (1, (), [3])


def test_dropped_event_types_are_counted_by_name(tmp_path: Path) -> None:
    log = _log(
        tmp_path, "u,t,e\nu1,2025-01-01,ping\nu1,2025-01-01,scroll\nu1,2025-01-01,ping\nu1,2025-01-01,buy\n"
    )
    source = _source(
        tmp_path,
        "name: shop\ncolumns: {user_id: u, event_time: t, event_type: e}\n"
        "event_types: {ping: null, scroll: null, buy: purchase}\n",
    )
    assert read_rows(log, source) == [
        "u1 2025-01-01T00:00:00Z purchase",
        "filtered: e event_type ping 2",
        "filtered: e event_type scroll 1",
    ]


ORDERS = (
    "name: orders\ncolumns: {user_id: u, event_time: t, order_id: o}\nconstants: {event_type: purchase}\n"
)
FILL = ORDERS + "fill_down: {by: o, columns: [u, t]}\n"


def _users(chunks: list[Chunk]) -> list[str]:
    return [user for chunk in chunks for user in chunk.events["user_id"]]


def test_an_order_continues_beyond_a_window_and_after_a_resumed_run(tmp_path: Path) -> None:
    lines = [f"#{row},u{row},2025-01-01\n" for row in range(WINDOW_ROWS)] + [f"#{WINDOW_ROWS - 1},,\n"] * 3
    path, source = _log(tmp_path, "o,u,t\n" + "".join(lines)), _source(tmp_path, FILL)
    chunks = list(sources.read_events(path, source))
    assert _users(chunks)[-3:] == [f"u{WINDOW_ROWS - 1}"] * 3
    (resumed,) = sources.read_events(path, source, skip=chunks[0].last)
    assert resumed.events.equals(chunks[1].events)


def test_values_are_filled_within_their_order_only(tmp_path: Path) -> None:
    log = _log(
        tmp_path, "o,u,t\n#1,u1,2025-01-01\n#2,,2025-01-01\n,,2025-01-01\n#1,,2025-01-01\n#1,u3,\n#1,,\n"
    )
    assert read_rows(log, _source(tmp_path, FILL)) == [
        "u1 2025-01-01T00:00:00Z purchase order_id=#1",
        "u3 2025-01-01T00:00:00Z purchase order_id=#1",
        "u3 2025-01-01T00:00:00Z purchase order_id=#1",
        *(f"refused: line {line} u missing" for line in (3, 4, 5)),
    ]


def test_a_refused_row_of_an_order_can_be_read_again_on_its_own(tmp_path: Path) -> None:
    log = _log(tmp_path, 'o,u,t\n#1,"a, b",never\n#1,,\n')
    (chunk,) = sources.read_events(log, _source(tmp_path, FILL))
    assert [next(csv.reader([refusal.raw])) for refusal in chunk.refused] == [["#1", "a, b", "never"]] * 2


REFUNDS = (
    "name: shop\ncolumns: {user_id: u, event_time: t, event_type: e, price: p, quantity: q}\n"
    "refunds: {negative: true}\n"
)


@pytest.mark.parametrize(
    ("cells", "outcome"),
    [
        ("purchase,-5,1", "u1 2025-01-01T00:00:00Z refund price=5.00 quantity=1"),
        ("purchase,(5.00),1", "u1 2025-01-01T00:00:00Z refund price=5.00 quantity=1"),
        ("purchase,5-,1", "u1 2025-01-01T00:00:00Z refund price=5.00 quantity=1"),
        ("purchase,5,-2", "u1 2025-01-01T00:00:00Z refund price=5.00 quantity=2"),
        ("purchase,-5,-2", "u1 2025-01-01T00:00:00Z refund price=5.00 quantity=2"),
        ("refund,-5,1", "u1 2025-01-01T00:00:00Z refund price=5.00 quantity=1"),
        ("purchase,0,1", "u1 2025-01-01T00:00:00Z purchase price=0.00 quantity=1"),
        ("purchase,5.-,1", "u1 2025-01-01T00:00:00Z purchase price=5.00 quantity=1"),
        ("add_to_cart,-5,1", "refused: line 2 p price_negative"),
        ("purchase,5,--2", "u1 2025-01-01T00:00:00Z purchase price=5.00"),
    ],
)
def test_negative_amounts_of_purchases_are_refunds(tmp_path: Path, cells: str, outcome: str) -> None:
    rows = read_rows(_log(tmp_path, f"u,t,e,p,q\nu1,2025-01-01,{cells}\n"), _source(tmp_path, REFUNDS))
    assert [row for row in rows if not row.startswith("warning")] == [outcome]


def test_warnings_of_refused_rows_do_not_count(tmp_path: Path) -> None:
    log = _log(
        tmp_path, "user_id,event_time,event_type,price\nu1,2025-01-01,purchase,x\n,2025-01-01,purchase,x\n"
    )
    chunks = list(sources.read_events(log, sources.get_preset("canonical")))
    assert note_rows(merge_notes(chunk.notes for chunk in chunks)) == ["warning: price price 1"]
