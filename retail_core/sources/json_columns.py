"""Columns of JSON objects, made into text when they are first read.

Separate from `json_tables.py`, because `RawTable` itself uses it. Most keys of a nested export are never
read, and writing them as text costs more than parsing the line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from retail_core.arrays import IntArray


class JsonColumns(Mapping[str, pa.Array]):
    """Text columns by key of JSON objects; a nested value is its JSON text.

    Args:
        objects: one parsed JSON object per record.
        names: keys of the objects.
        derived: columns that are not, or no longer, those of the objects.
    """

    def __init__(
        self,
        objects: Sequence[Mapping[str, object]],
        names: Iterable[str],
        derived: Mapping[str, pa.Array] | None = None,
    ) -> None:
        self._objects = objects
        self._derived = dict(derived or {})
        self._names = dict.fromkeys([*names, *self._derived])
        self._texts: dict[str, pa.Array] = {}

    def __getitem__(self, name: str) -> pa.Array:
        """The text column `name`."""
        if name in self._derived:
            return self._derived[name]
        if name not in self._names:
            raise KeyError(name)
        if name not in self._texts:
            self._texts[name] = text_array([row.get(name) for row in self._objects])
        return self._texts[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is such a column."""
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        """The names of the columns."""
        return iter(self._names)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self._names)

    def nested_values(self, name: str) -> list[object] | None:
        """The parsed values of key `name`; None if the column is not that of the objects."""
        return None if name in self._derived else [row.get(name) for row in self._objects]

    def take(self, rows: IntArray) -> JsonColumns:
        """The columns of records `rows`, in that order, with repetitions."""
        indices, objects = pa.array(rows), self._objects
        arrays = {name: array.take(indices) for name, array in self._derived.items()}
        selected = JsonColumns([objects[row] for row in rows.tolist()], self._names, arrays)
        selected._texts = {name: array.take(indices) for name, array in self._texts.items()}
        return selected

    def with_columns(self, columns: Mapping[str, pa.Array]) -> JsonColumns:
        """These columns and `columns`, which replace those of the same name."""
        further = JsonColumns(self._objects, self._names, self._derived | dict(columns))
        further._texts = self._texts
        return further


def text_array(values: Iterable[object]) -> pa.Array:
    """JSON values as a text column."""
    texts = [value if value is None or type(value) is str else as_text(value) for value in values]
    return pa.array(texts, pa.string())


def as_text(value: object) -> str | None:
    """A JSON value as the text of a CSV cell."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)
