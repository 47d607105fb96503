"""Paths into JSON and Parquet structures, and rows with a list of items."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.arrow_compute import pq
from retail_core.errors import InputError
from retail_core.sources import Source
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
