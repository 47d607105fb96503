"""Several item ids in one cell or list: each becomes an event, and the amount of a row is divided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from retail_core.sources.detection import Detection, detect
from tests.unit.sources.detection.detected import csv_lines, detected, hours, mapping_of, question_of

EVENTS = ("view_item", "add_to_cart", "purchase")


def _detected(folder: Path, cells: Sequence[str], column: str = "product_ids") -> Detection:
    rows = [
        f'u{row % 9}|{EVENTS[row % 3]}|{time}|"{cells[row % len(cells)]}"|9.00'
        for row, time in enumerate(hours(60))
    ]
    return detected(folder, csv_lines(f"user_id|event|time|{column}|amount", rows))


@pytest.mark.parametrize(
    ("cell", "separator"),
    [
        ("A1,A2", ","),
        ("A1, A2", ","),
        ("A1;A2", ";"),
        ("100;200", ";"),
        ("['A1', 'A2']", ","),
        ("[A1 A2]", " "),
        ("{A1,A2}", ","),
        ("(A1;A2)", ";"),
        ("'A1';'A2'", ";"),
    ],
)
@pytest.mark.parametrize("column", ["product_ids", "items"])
def test_cells_with_several_items_are_split(tmp_path: Path, cell: str, separator: str, column: str) -> None:
    result = _detected(tmp_path, [cell, cell.translate(str.maketrans("12", "21"))], column)
    mapping = mapping_of(result)
    assert mapping["lists"]["goods"]["separator"] == separator
    assert mapping["columns"]["item_id"] == "goods[].sku"
    assert f"item_id: {column}, without lists" in question_of(result, "lists.goods")
    items = [row["event"]["item_id"] for row in result.trial.preview[:2]]
    assert items == (["100", "200"] if "100" in cell else ["A1", "A2"])
    assert result.trial.events == 120


def test_items_between_pipes_are_split_in_a_comma_file(tmp_path: Path) -> None:
    rows = [f"u{row % 9},view,{time},A{row % 7}|A{row % 5}|B" for row, time in enumerate(hours(60))]
    result = detected(tmp_path, csv_lines("user_id,event,time,product_ids", rows))
    assert mapping_of(result)["lists"]["goods"]["separator"] == "|"
    assert result.trial.events == 180


def test_json_lists_in_cells_are_exploded(tmp_path: Path) -> None:
    result = _detected(tmp_path, ['[""A1"",""A2""]', '[""A3""]'])
    assert mapping_of(result)["columns"]["item_id"] == "product_ids[]"
    assert result.trial.events == 90


def test_the_amount_of_a_row_is_divided_and_asked_about(tmp_path: Path) -> None:
    result = _detected(tmp_path, ["A1,A2,A3", "A2,A1"])
    assert mapping_of(result)["price_per"] == "row"
    assert [row["event"]["price"] for row in result.trial.preview[:5]] == ["3.00"] * 3 + ["4.50"] * 2
    assert "price_per: unit" in question_of(result, "price_per")


def test_parts_that_are_ids_elsewhere_show_a_list_under_any_name(tmp_path: Path) -> None:
    result = _detected(tmp_path, ["A1", "A2", "A1,A2"], "sku")
    assert mapping_of(result)["columns"]["item_id"] == "goods[].sku"


def test_ids_that_may_contain_the_separator_are_asked_about(tmp_path: Path) -> None:
    result = _detected(tmp_path, ["TS-1;red", "TS-2;blue", "TS-3;green", "TS-4;grey"], "sku")
    assert mapping_of(result)["columns"]["item_id"] == "sku"
    question = question_of(result, "columns.item_id")
    assert "Are these several items?" in question
    assert "lists: {goods: {column: sku, separator: ';'" in question


def test_single_ids_are_no_lists(tmp_path: Path) -> None:
    result = _detected(tmp_path, ["A-1/x", "B+2", "C_3.4"])
    assert "lists" not in mapping_of(result)
    assert not question_of(result, "columns.item_id")


def test_columns_with_one_value_for_each_item_are_named(tmp_path: Path) -> None:
    rows = [f"u{row % 9},purchase,{time},A{row}|B{row},1|2,3.5|4.0" for row, time in enumerate(hours(60))]
    result = detected(tmp_path, csv_lines("user_id,event,time,skus,quantities,prices", rows))
    notes = " ".join(result.document()["notes"])
    assert "quantities and prices has one value for each item of skus" in notes
    assert {"price", "quantity"}.isdisjoint(mapping_of(result)["columns"])


def test_a_quantity_of_a_whole_row_is_not_counted_for_each_item(tmp_path: Path) -> None:
    rows = [f"u{row % 9},purchase,{time},A{row}|B{row},2" for row, time in enumerate(hours(60))]
    result = detected(tmp_path, csv_lines("user_id,event,time,skus,quantity", rows))
    assert "quantity" not in mapping_of(result)["columns"]
    assert any("quantity counts the pieces of a row" in note for note in result.document()["notes"])


def _lines(items: object) -> str:
    lines = [
        {"user_id": f"u{row % 9}", "event": EVENTS[row % 3], "time": time, "tags": ["x", "y"], "items": items}
        for row, time in enumerate(hours(30))
    ]
    return "\n".join(map(json.dumps, lines)) + "\n"


@pytest.mark.parametrize(
    ("items", "column"),
    [
        (["a", "b"], "items[]"),
        ([1, 2], "items[]"),
        ([{"id": "a", "price": 1}, {"id": "b", "price": 2}], "items[].id"),
        ([{"sku": "a"}, {"sku": "b"}], "items[].sku"),
    ],
)
def test_lists_in_json_lines_and_parquet(tmp_path: Path, items: list[object], column: str) -> None:
    result = detected(tmp_path, _lines(items), "log.jsonl")
    assert mapping_of(result)["columns"]["item_id"] == column
    assert result.trial.events == 60
    assert all("item_id" in row["event"] for row in result.trial.preview)
    path = tmp_path / "log.parquet"
    pd.DataFrame(list(map(json.loads, _lines(items).splitlines()))).to_parquet(path)
    assert mapping_of(detect(path))["columns"] == mapping_of(result)["columns"]


def test_a_list_of_tags_does_not_multiply_the_events(tmp_path: Path) -> None:
    result = detected(tmp_path, _lines(None).replace("tags", "categories"), "log.jsonl")
    assert result.trial.events == 30


def test_the_number_of_pieces_after_an_id_is_its_quantity(tmp_path: Path) -> None:
    result = _detected(tmp_path, ["A1:2,B1:1", "A2:3"], "items")
    mapping = mapping_of(result)
    assert mapping["columns"]["quantity"] == "goods[].quantity"
    events = [row["event"] for row in result.trial.preview[:2]]
    assert [(event["item_id"], event["quantity"], event["price"]) for event in events] == [
        ("A1", 2, "3.00"),
        ("B1", 1, "3.00"),
    ]
