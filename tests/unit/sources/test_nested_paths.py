"""Paths into JSON and Parquet structures, and rows with a list of items."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.arrow_compute import pq
from retail_core.errors import InputError
from retail_core.sources import Source
from retail_core.sources.nested_paths import exploded_lists, value_at_path
from retail_core.sources.raw_paths import path_root
from tests.unit.sources.event_rows import read_rows

MAPPING = """
name: nested
columns:
  event_id: id
  user_id: user.id
  event_time: at
  item_id: items[].sku
  price: items[].price
  category: tags[0]
  brand: "user.none.deep?"
constants: {event_type: purchase}
"""
EVENT = {
    "id": "e1", "user": {"id": 17850.0}, "at": "2025-01-01T00:00:00Z",
    "items": [{"sku": "a", "price": 12.5}, {"sku": "b"}], "tags": ["t"],
}  # fmt: skip
NO_ITEMS = {"id": "e2", "user": {"id": 2.0}, "at": "2025-01-01T00:00:00Z", "items": [], "tags": []}
EXPECTED = [
    "17850 2025-01-01T00:00:00Z purchase item_id=a category=t price=12.50",
    "17850 2025-01-01T00:00:00Z purchase item_id=b category=t",
    "2 2025-01-01T00:00:00Z purchase",
]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """The source of `MAPPING`."""
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING)
    return sources.from_mapping(mapping)


def _json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in (EVENT, NO_ITEMS)))


def _csv(path: Path) -> None:
    rows = [
        [value if isinstance(value, str) else json.dumps(value) for value in row.values()]
        for row in (EVENT, NO_ITEMS)
    ]
    quoted = ['"' + '","'.join(cell.replace('"', '""') for cell in row) + '"\n' for row in rows]
    path.write_text(",".join(EVENT) + "\n" + "".join(quoted))


def _parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([EVENT, NO_ITEMS]), path)


Writer = Callable[[Path], None]


@pytest.mark.parametrize("write", [_json_lines, _csv, _parquet])
def test_items_become_events_in_every_format(tmp_path: Path, source: Source, write: Writer) -> None:
    write(tmp_path / "log")
    assert read_rows(tmp_path / "log", source) == EXPECTED


def test_items_of_one_event_id_have_ids_of_their_own(tmp_path: Path, source: Source) -> None:
    _json_lines(tmp_path / "log")
    (chunk,) = sources.read_events(tmp_path / "log", source)
    assert chunk.source_ids.to_pylist() == ["e1", "e1#2", "e2"]
    assert chunk.events["event_id"].nunique() == 3
    assert chunk.lines.tolist() == [1, 1, 2]
    assert json.loads(chunk.raw(1)) == EVENT


def test_a_column_named_like_the_path_is_used_before_the_path(tmp_path: Path, source: Source) -> None:
    row = NO_ITEMS | {"user.id": "literal", "items[].sku": "s"}
    (tmp_path / "log").write_text(json.dumps(row) + "\n")
    assert read_rows(tmp_path / "log", source) == ["literal 2025-01-01T00:00:00Z purchase item_id=s"]


def test_values_that_are_not_nested_are_missing(tmp_path: Path, source: Source) -> None:
    rows = [NO_ITEMS | {"items": "none", "tags": 7}, NO_ITEMS | {"user": "u"}]
    (tmp_path / "log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_rows(tmp_path / "log", source) == [
        "2 2025-01-01T00:00:00Z purchase",
        "refused: line 2 user.id missing",
    ]


def test_rows_are_split_by_one_list_only(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING.replace("tags[0]", "tags[].name"))
    with pytest.raises(InputError, match=r"by one list only, not by items and tags"):
        sources.from_mapping(mapping)


KEYED = """
name: keyed
columns:
  user_id: "params[key=client.id v2].value.string_value"
  event_time: at
  event_type: type
  session_id: ["params[key=session].value.int_value", "params[key=session].value.string_value"]
  item_id: items[].sku
  category: items[].tags[0]
  brand: "items[].more[name=brand].text"
"""
KEYED_EVENT = {
    "at": "2025-01-01T00:00:00Z",
    "type": "view_item",
    "params": [
        {"key": "session", "value": {"string_value": None, "int_value": 7}},
        {"key": "client.id v2", "value": {"string_value": "u1", "int_value": None}},
        {"key": "client.id v2", "value": {"string_value": "second", "int_value": None}},
    ],
    "items": [
        {"sku": "a", "tags": ["t"], "more": [{"name": "size", "text": "M"}, {"name": "brand", "text": "B"}]},
        {"sku": "b", "tags": [], "more": []},
    ],
}
WITHOUT_USER = KEYED_EVENT | {"params": [{"key": None, "value": {"string_value": "u1", "int_value": 1}}]}
KEYED_ROWS = [
    "u1 2025-01-01T00:00:00Z view_item item_id=a category=t brand=B session_id=7",
    "u1 2025-01-01T00:00:00Z view_item item_id=b session_id=7",
    "refused: line 2 params[key=client.id v2].value.string_value missing",
]


@pytest.fixture
def keyed(tmp_path: Path) -> Source:
    """The source of `KEYED`."""
    mapping = tmp_path / "keyed.yaml"
    mapping.write_text(KEYED)
    return sources.from_mapping(mapping)


def test_values_are_found_by_the_text_of_a_key(tmp_path: Path, keyed: Source) -> None:
    """In JSON lines, in JSON text of a CSV and in Parquet; a row without user is refused once."""
    rows = [KEYED_EVENT, WITHOUT_USER]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    with (tmp_path / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(KEYED_EVENT)
        for row in rows:
            writer.writerow([cell if isinstance(cell, str) else json.dumps(cell) for cell in row.values()])
    assert read_rows(tmp_path / "log.jsonl", keyed) == KEYED_ROWS
    assert read_rows(tmp_path / "log.parquet", keyed) == KEYED_ROWS
    assert read_rows(tmp_path / "log.csv", keyed) == [row.replace("line 2", "line 3") for row in KEYED_ROWS]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a[key=x].v", 1),
        ("a[key=x y.z].v", 2),
        ("a[key=3].v", 3),
        ("a[key=].v", 4),
        ("a[key=k=v].v", 5),
        ("a[key=true].v", 6),
        ("a[0].v", 1),
        ("a[key=none].v", None),
        ("a[other=x].v", None),
        ("b[key=x].v", None),
    ],
)
def test_the_value_at_a_path_of_one_object(path: str, value: object) -> None:
    keys: list[object] = ["x", "x y.z", 3, "", "k=v", True]
    entries: list[object] = [{"key": key, "v": number} for number, key in enumerate(keys, 1)]
    content = {"a": [*entries, "text", None, {"key": "x", "v": "second"}], "b": {"key": "x", "v": 1}}
    assert value_at_path(content, path) == value
    assert path_root(path) == path[0]


def test_brackets_within_a_text_split_no_row() -> None:
    assert exploded_lists(["a[key=b[].c", "d[key=x].e[].f"]) == {"d[key=x].e"}


def test_keys_that_the_first_json_lines_leave_out(tmp_path: Path, source: Source) -> None:
    """An export without null values: the required columns are looked for in the following lines too."""
    first = {name: value for name, value in NO_ITEMS.items() if name != "user"}
    rows = [first] * 3 + [EVENT]
    (tmp_path / "log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = [f"refused: line {line} user.id missing" for line in (1, 2, 3)]
    assert read_rows(tmp_path / "log", source) == EXPECTED[:2] + refused
    (rest,) = sources.read_events(tmp_path / "log", source, skip=2)
    assert (rest.first, rest.last, rest.lines.tolist()) == (3, 4, [4, 4])


@pytest.mark.parametrize(("escape", "rule"), [("\\u0000", "nul"), ("\\ud800", "encoding")])
def test_broken_characters_in_escapes_are_refused(
    tmp_path: Path, source: Source, escape: str, rule: str
) -> None:
    lines = [json.dumps(EVENT), json.dumps(NO_ITEMS | {"unread": "?"}).replace("?", escape)]
    (tmp_path / "log").write_text("\n".join([*lines, "", " "]))
    assert read_rows(tmp_path / "log", source) == [*EXPECTED[:2], f"refused: line 2 None {rule}"]
