"""Tables of several records for each raw row, such as the lines of an order, as presets make them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.sources.json_columns import as_text
from retail_core.sources.nested_paths import value_at_path
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.text_cleaning import as_text_column, cleaned_text

Record = tuple[int, Mapping[str, object]]
"""Raw row that a record is made of, and the columns that the record adds or replaces."""


def expanded_table(table: RawTable, records: Sequence[Record]) -> RawTable:
    """A table with one row for each record; columns that a record does not name are null in it.

    Columns of `table` that no record names keep the value of the raw row.
    """
    expanded = table.take(np.array([row for row, _ in records], dtype=np.int64))
    names = dict.fromkeys(name for _, values in records for name in values)
    added = {
        name: pa.array([as_text(values.get(name)) for _, values in records], pa.string()) for name in names
    }
    return replace(expanded, columns=dict(expanded.columns) | added)


def column_texts(table: RawTable, source: Source, *names: str) -> list[str | None]:
    """Text of the first of several columns with a value, one for each row; None where no column has one."""
    texts: list[str | None] = [None] * len(table)
    for name in names:
        if name in table.columns:
            cells = cleaned_text(table.columns[name], source.nulls).to_pylist()
            texts = [text if text is not None else cell for text, cell in zip(texts, cells, strict=True)]
    return texts


def nested_column(table: RawTable, name: str) -> list[object]:
    """The JSON values of a column, one for each row; None where there is none or it is broken."""
    if name not in table.columns:
        return [None] * len(table)
    return [None if text is None else _load(text) for text in as_text_column(table.columns[name]).to_pylist()]


def _load(text: str) -> object:
    try:
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


def objects_of(value: object) -> list[Mapping[str, object]]:
    """The objects of a JSON list, or of a GraphQL connection with `nodes` or `edges`.

    >>> objects_of([{"id": 1}]), objects_of({"nodes": [{"id": 2}]}), objects_of({"edges": [{"node": {}}]})
    ([{'id': 1}], [{'id': 2}], [{}])
    """
    if isinstance(value, Mapping):
        edges = objects_of(value.get("edges"))
        value = value.get("nodes", [edge.get("node") for edge in edges])
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def first_value(content: Mapping[str, object], *paths: str) -> str | None:
    """Text of the first of several paths in a JSON object that has a value.

    >>> first_value({"price": {"amount": "5"}}, "total", "price.amount")
    '5'
    """
    texts = (as_text(value_at_path(content, path)) for path in paths)
    return next((text for text in texts if text), None)
