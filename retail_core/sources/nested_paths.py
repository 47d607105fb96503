"""Columns inside nested values: `properties.order_id`, `items[0].price`, and `items[].price` of each item.

A path begins with a column of JSON text (JSON lines, CSV) or of structures (Parquet). A column whose whole
name is the path is used instead, if there is one. `[]` gives one record for each element of a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from retail_core.sources.json_tables import MAX_JSON_DEPTH, as_text, is_too_deep
from retail_core.sources.source import RawTable, Source, path_root

_STEP = re.compile(r"\[\]|\[(\d+)\]|([^.\[\]]+)")


@dataclass(frozen=True)
class NestedPath:
    """A path below its root column.

    Attributes:
        list_steps: keys and indices of the list that is exploded; None without `[]`.
        steps: keys and indices from the root, or from an element of that list.
    """

    list_steps: tuple[str | int, ...] | None
    steps: tuple[str | int, ...]


def parse_path(text: str) -> NestedPath:
    """The steps of a path below its root.

    >>> parse_path("items[0].price")
    NestedPath(list_steps=None, steps=(0, 'price'))
    >>> parse_path("properties.products[].price")
    NestedPath(list_steps=('products',), steps=('price',))
    """
    before, separator, after = text.partition("[]")
    outer = _steps(before)[1:]
    return NestedPath(outer, _steps(after)) if separator else NestedPath(None, outer)


def _steps(text: str) -> tuple[str | int, ...]:
    return tuple(
        int(index) if (index := match[1]) is not None else match[2] for match in _STEP.finditer(text)
    )


def exploded_lists(names: Iterable[str]) -> set[str]:
    """The lists that the paths among `names` explode."""
    return {name.partition("[]")[0] for name in names if "[]" in name}


def resolve_paths(table: RawTable, source: Source) -> RawTable:
    """`table` with a column for each path that `source` names, one record for each exploded element."""
    paths = {
        name: parse_path(name)
        for name in source.mapped_columns()
        if name not in table.columns and path_root(name) != name and path_root(name) in table.columns
    }
    if not paths:
        return table
    roots = {root: _nested_values(table.columns[root]) for root in map(path_root, paths)}
    lists = sorted(exploded_lists(paths))
    elements: list[object] = []
    if lists:
        table, rows, elements = _explode(table, source, roots[path_root(lists[0])], lists[0])
        roots = {root: [values[row] for row in rows] for root, values in roots.items()}
    columns = dict(table.columns)
    for name, path in paths.items():
        values = roots[path_root(name)] if path.list_steps is None else elements
        texts = [as_text(_value_at(value, path.steps)) for value in values]
        columns[name] = pa.array(texts, pa.string())
    return replace(table, columns=columns)


def _explode(
    table: RawTable, source: Source, values: list[object], list_path: str
) -> tuple[RawTable, list[int], list[object]]:
    """The table with one record per list element, the row of each before, and the elements.

    A record without elements stays one record. Event ids of further elements get the suffix `#2`, `#3`, ...
    """
    steps = _steps(list_path)[1:]
    rows: list[int] = []
    elements: list[object] = []
    numbers: list[int] = []
    for row, value in enumerate(values):
        content = _value_at(value, steps)
        entries = content if isinstance(content, list) and content else [content]
        rows += [row] * len(entries)
        elements += entries
        numbers += range(1, len(entries) + 1)
    exploded = table.take(np.array(rows, dtype=np.int64))
    columns = dict(exploded.columns)
    for name in source.columns.get("event_id", ()):
        if name in columns:
            texts = [as_text(value) for value in columns[name].to_pylist()]
            columns[name] = pa.array(map(_numbered, texts, numbers), pa.string())
    return replace(exploded, columns=columns), rows, elements


def _numbered(event_id: str | None, number: int) -> str | None:
    return f"{event_id}#{number}" if event_id and number > 1 else event_id


def _nested_values(column: pa.Array) -> list[object]:
    """The nested values of a column; text is read as JSON, None where it is none."""
    if not pa.types.is_string(column.type):
        values: list[object] = column.to_pylist()
        return values
    return [None if text is None else _load_json(text) for text in column.to_pylist()]


def _load_json(text: str) -> object:
    try:
        value = json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return None if len(text) >= 2 * MAX_JSON_DEPTH and is_too_deep(value) else value


def value_at_path(content: Mapping[str, object], name: str) -> object:
    """The value of a column or path without `[]` in a JSON object; None if it is absent.

    >>> value_at_path({"user": {"id": 7}}, "user.id"), value_at_path({"user.id": 8}, "user.id")
    (7, 8)
    """
    if name in content:
        return content[name]
    return _value_at(content.get(path_root(name)), parse_path(name).steps)


def _value_at(value: object, steps: tuple[str | int, ...]) -> object:
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(str(step))
        elif isinstance(value, list) and str(step).isdecimal():
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value
