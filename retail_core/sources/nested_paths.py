"""Columns inside nested values: `properties.order_id`, `items[0].price`, and `items[].price` of each item.

A path begins with a column of JSON text (JSON lines, CSV) or of structures (Parquet). A column whose whole
name is the path is used instead, if there is one. `[]` gives one record for each element of a list,
`[key=color]` is the first element of a list whose field `key` has the text `color`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import pc
from retail_core.sources.json_columns import JsonColumns, as_text, text_array
from retail_core.sources.json_tables import load_json
from retail_core.sources.plain_elements import with_plain_elements
from retail_core.sources.raw_paths import path_root
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source

_STEP = re.compile(r"\[\]|\[(?P<index>\d+)\]|\[(?P<field>[^=\[\]]+)=(?P<text>[^\]]*)\]|(?P<name>[^.\[\]]+)")


@dataclass(frozen=True)
class Entry:
    """A step to the first element of a list whose field `field`, as text, is `text`."""

    field: str
    text: str


Steps = tuple[str | int | Entry, ...]


@dataclass(frozen=True)
class NestedPath:
    """A path below its root column.

    Attributes:
        list_steps: keys and indices of the list that is exploded; None without `[]`.
        steps: keys and indices from the root, or from an element of that list.
    """

    list_steps: Steps | None
    steps: Steps


@lru_cache(4_096)
def parse_path(text: str) -> NestedPath:
    """The steps of a path below its root.

    >>> parse_path("items[0].price")
    NestedPath(list_steps=None, steps=(0, 'price'))
    >>> parse_path("properties.products[].price")
    NestedPath(list_steps=('products',), steps=('price',))
    >>> parse_path("params[key=page title].value").steps
    (Entry(field='key', text='page title'), 'value')
    """
    list_path = _exploded_list(text)
    if list_path is None:
        return NestedPath(None, _steps(text)[1:])
    return NestedPath(_steps(list_path)[1:], _steps(text[len(list_path) :]))


def _steps(text: str) -> Steps:
    return tuple(_step(match) for match in _STEP.finditer(text) if match[0] != "[]")


def _step(match: re.Match[str]) -> str | int | Entry:
    if match["index"] is not None:
        return int(match["index"])
    return match["name"] or Entry(match["field"], match["text"])


@lru_cache(4_096)
def _exploded_list(text: str) -> str | None:
    """The part of a path before `[]`; None without."""
    return next((text[: match.start()] for match in _STEP.finditer(text) if match[0] == "[]"), None)


def exploded_lists(names: Iterable[str]) -> set[str]:
    """The lists that the paths among `names` explode."""
    return {list_path for name in names if (list_path := _exploded_list(name)) is not None}


def resolve_paths(table: RawTable, source: Source) -> RawTable:
    """`table` with a column for each path that `source` names, one record for each exploded element."""
    columns = _columns_with_paths(table, source)
    if not columns:
        return table
    names = [name for paths in columns.values() for name in paths]
    roots = {root: _PathValues(nested_values(table, root)) for root in set(map(path_root, names))}
    lists = sorted(exploded_lists(names))
    flat = {name: paths for name, paths in columns.items() if not exploded_lists(paths)}
    table = table.with_columns(
        {
            name: _first_texts([roots[path_root(path)].at(parse_path(path).steps) for path in paths])
            for name, paths in flat.items()
        }
    )
    if not lists:
        return table
    content = roots[path_root(lists[0])].at(parse_path(lists[0]).steps)
    table, elements = _explode(table, source, content)
    listed = {name: paths for name, paths in columns.items() if name not in flat}
    table = with_plain_elements(table, elements, [path for paths in listed.values() for path in paths])
    values = _PathValues(elements)
    return table.with_columns(
        {
            name: _first_texts([values.at(parse_path(path).steps) for path in paths])
            for name, paths in listed.items()
        }
    )


def _columns_with_paths(table: RawTable, source: Source) -> dict[str, list[str]]:
    """Columns that `table` lacks, with the paths to their values."""
    columns: dict[str, list[str]] = {}
    for name in dict.fromkeys([*source.mapped_columns(), *source.nested]):
        if name not in table.columns:
            candidates = source.nested.get(name) or ((name,) if path_root(name) != name else ())
            if paths := [path for path in candidates if path_root(path) in table.columns]:
                columns[name] = paths
    return columns


def _first_texts(candidates: Sequence[Sequence[object]]) -> pa.Array:
    """Per record the text of the first value that is not null."""
    texts = [text_array(values) for values in candidates]
    return pc.coalesce(*texts) if len(texts) > 1 else texts[0]


def _explode(table: RawTable, source: Source, content: Sequence[object]) -> tuple[RawTable, Sequence[object]]:
    """The table with one record per list element, and the elements.

    A record without elements stays one record. Event ids of further elements get the suffix `#2`, `#3`, ...
    """
    lists = [(value or [None]) if isinstance(value, list) else [value] for value in content]
    elements = [element for entries in lists for element in entries]
    if len(elements) == len(table):
        return table, elements
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    rows = np.repeat(np.arange(len(lists)), lengths)
    table = table.take(rows)
    numbers = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    names = [name for name in source.columns.get("event_id", ()) if name in table.columns]
    return table.with_columns({name: _numbered(table.columns[name], numbers) for name in names}), elements


def _numbered(event_ids: pa.Array, numbers: IntArray) -> pa.Array:
    texts = [as_text(value) for value in event_ids.to_pylist()]
    numbered = [
        f"{event_id}#{number}" if event_id and number > 1 else event_id
        for event_id, number in zip(texts, numbers.tolist(), strict=True)
    ]
    return pa.array(numbered, pa.string())


def nested_values(table: RawTable, name: str) -> list[object]:
    """The nested values of a column; text is read as JSON, None where it is none."""
    columns, values = table.columns, None
    if isinstance(columns, JsonColumns):
        values = columns.nested_values(name)
    if values is None:
        values = columns[name].to_pylist()
    return [load_json(value) if isinstance(value, str) else value for value in values]


class _PathValues:
    """What many records have at the ends of paths; the common beginning of several paths is read once."""

    def __init__(self, values: list[object] | Sequence[object]) -> None:
        self._by_steps: dict[Steps, Sequence[object]] = {(): values}
        self._entries: dict[tuple[Steps, str], list[dict[str | None, object]]] = {}

    def at(self, steps: Steps) -> Sequence[object]:
        """The value of each record, None where it has none."""
        if steps not in self._by_steps:
            self._by_steps[steps] = self._next(steps[:-1], steps[-1])
        return self._by_steps[steps]

    def _next(self, steps: Steps, step: str | int | Entry) -> list[object]:
        if isinstance(step, Entry):
            if (steps, step.field) not in self._entries:
                entries = [_entries_by_text(value, step.field) for value in self.at(steps)]
                self._entries[steps, step.field] = entries
            return [entries.get(step.text) for entries in self._entries[steps, step.field]]
        if isinstance(step, str) and not step.isdecimal():
            return [value.get(step) if type(value) is dict else None for value in self.at(steps)]
        return [_next_value(value, step) for value in self.at(steps)]


def _entries_by_text(value: object, field: str) -> dict[str | None, object]:
    """The elements of a list by the text of a field, of several with one text the first."""
    if not isinstance(value, list):
        return {}
    try:
        by_text = {entry[field]: entry for entry in reversed(value)}
        if set(map(type, by_text)) <= {str}:
            return by_text
    except (KeyError, TypeError):
        pass
    entries = [entry for entry in reversed(value) if isinstance(entry, dict)]
    return {as_text(entry.get(field)): entry for entry in entries}


def value_at_path(content: Mapping[str, object], name: str) -> object:
    """The value of a column or path without `[]` in a JSON object; None if it is absent.

    >>> value_at_path({"user": {"id": 7}}, "user.id"), value_at_path({"user.id": 8}, "user.id")
    (7, 8)
    >>> value_at_path({"ids": [{"type": "shop", "id": 7}]}, "ids[type=shop].id")
    7
    """
    if name in content:
        return content[name]
    value = content.get(path_root(name))
    for step in parse_path(name).steps:
        value = _next_value(value, step)
    return value


def _next_value(value: object, step: str | int | Entry) -> object:
    if isinstance(step, Entry):
        return _entries_by_text(value, step.field).get(step.text)
    if isinstance(value, Mapping):
        return value.get(str(step))
    if isinstance(value, list) and str(step).isdecimal():
        return value[int(step)] if int(step) < len(value) else None
    return None
