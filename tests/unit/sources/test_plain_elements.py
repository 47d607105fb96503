"""Exploded lists of plain values: their items are read, or each event without its item is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from retail_core import sources
from retail_core.arrow_compute import pq
from retail_core.sources import Chunk
from retail_core.sources.mapping import mapping_from_text

ROWS = [
    {"u": "u1", "t": "2025-01-31", "items": ["a", "b"]},
    {"u": "u2", "t": "2025-01-31", "items": []},
    {"u": "u3", "t": "2025-01-31", "items": ["c"]},
]


def _read(path: Path, item_path: str, *, properties: str = "[]") -> Chunk:
    mapping = (
        f"name: plain\ncolumns: {{user_id: u, event_time: t, item_id: '{item_path}'}}\n"
        f"constants: {{event_type: view_item}}\nproperties: {properties}\n"
    )
    (chunk,) = sources.read_events(path, mapping_from_text(mapping))
    return chunk


def _jsonl(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


def _parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


def _csv(path: Path) -> None:
    cells = [json.dumps(row["items"]).replace('"', '""') for row in ROWS]
    lines = [f'{row["u"]},{row["t"]},"{cell}"\n' for row, cell in zip(ROWS, cells, strict=True)]
    path.write_text("u,t,items\n" + "".join(lines))


WRITERS = {"jsonl": _jsonl, "parquet": _parquet, "csv": _csv}


@pytest.mark.parametrize("form", WRITERS)
def test_the_elements_are_items(tmp_path: Path, form: str) -> None:
    path = tmp_path / "log"
    WRITERS[form](path)
    chunk = _read(path, "items[]")
    assert chunk.events["item_id"].dropna().tolist() == ["a", "b", "c"]
    assert len(chunk.events) == 4
    assert not chunk.notes.warnings


@pytest.mark.parametrize("properties", ["[]", "all"])
@pytest.mark.parametrize("form", WRITERS)
def test_elements_without_the_mapped_field_are_counted(tmp_path: Path, form: str, properties: str) -> None:
    path = tmp_path / "log"
    WRITERS[form](path)
    chunk = _read(path, "items[].sku", properties=properties)
    (warning,) = chunk.notes.warnings
    assert (warning.field, warning.rule, warning.count) == ("items[].sku", "list_element", 3)
    assert [example.value for example in warning.examples] == ["a", "b", "c"]
    assert "items[]" in warning.remedy
    assert not any("plain" in str(text) for text in chunk.events["properties"].dropna())
    assert chunk.unread_columns == ()


def test_lists_of_objects_are_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"u": "u1", "t": "2025-01-31", "items": [{"sku": "a"}, {"id": 1}]}\n')
    assert not _read(path, "items[].sku").notes.warnings


def test_a_preset_counts_them_too(tmp_path: Path) -> None:
    event = {
        "messageId": "m1",
        "type": "track",
        "userId": "u1",
        "event": "Order Completed",
        "timestamp": "2025-01-31T10:00:00Z",
        "properties": {"products": ["a", "b"]},
    }
    path = tmp_path / "log"
    path.write_text(json.dumps(event) + "\n")
    (chunk,) = sources.read_events(path, sources.get_preset("segment"))
    assert [(note.rule, note.count) for note in chunk.notes.warnings] == [("list_element", 2)]
