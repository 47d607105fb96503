"""The columns of a sample: those of the file and, where cells hold JSON or structures, the paths inside."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from retail_core.sources.detection.amounts import is_number, number_share
from retail_core.sources.detection.time_formats import TimeGuess, guess_times, is_clock
from retail_core.sources.json_columns import as_text
from retail_core.sources.raw_table import RawTable
from retail_core.sources.text_cleaning import cleaned_text

SAMPLE_ROWS = 10_000
"""Records of the sample."""

Place = tuple[int, int | None]
"""Number of a record, and of the element of a list in it."""

_NESTED_ROWS = 2_000
_MAX_PATHS = 400
_MAX_DEPTH = 6
_UNUSABLE_KEY = re.compile(r"[.\[\]]")
_ID = re.compile(r"^[^\s]{1,128}$")
_SEVERAL = re.compile(r"^[^\s,;|]+([,;|])[^\s,;|]+(\1[^\s,;|]+)*$")


@dataclass(frozen=True)
class Column:
    """The values of a column or path in the sample.

    Attributes:
        name: raw column, or path as in a mapping.
        rows: record of each value.
        values: the values that are not missing, as text, in the order of the file.
        records: number of records of the sample.
        list_path: the list that the path explodes; None if it has one value a record.
        elements: for a path into a list the number of the element of each value, from 0.
        typed_times: whether the values are times of Parquet.
    """

    name: str
    rows: Sequence[int]
    values: Sequence[str]
    records: int
    list_path: str | None = None
    typed_times: bool = False
    elements: Sequence[int] = ()

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of each value."""
        return Counter(self.values)

    @cached_property
    def filled_rows(self) -> frozenset[int]:
        """Records that have a value."""
        return frozenset(self.rows)

    @property
    def is_plain_list(self) -> bool:
        """Whether the path is a list of plain values: `items[]`."""
        return self.list_path is not None and self.name == f"{self.list_path}[]"

    @property
    def fill(self) -> float:
        """Share of the records that have a value."""
        return len(self.filled_rows) / self.records if self.records else 0.0

    @property
    def is_unique(self) -> bool:
        """Whether every record has a value of its own."""
        return self.fill == 1 and len(self.counts) == len(self.values)

    @cached_property
    def times(self) -> TimeGuess | None:
        """How the values are written as times, None if they are none."""
        if self.typed_times:
            return TimeGuess(("iso",), 1.0, zoned=True)
        return guess_times(self.values)

    @cached_property
    def is_clock(self) -> bool:
        """Whether the values are times of day without a date."""
        return is_clock(self.values)

    @cached_property
    def numbers(self) -> float:
        """Share of the values that are numbers, also with grouping, a currency sign or in brackets."""
        return number_share(list(self.counts)[:2_000])

    @cached_property
    def integers(self) -> float:
        """Share of the values that are whole numbers."""
        whole_numbers = sum(
            count for value, count in self.counts.items() if re.match(r"^-?\d{1,9}([.,]0+)?$", value)
        )
        return whole_numbers / max(len(self.values), 1)

    @cached_property
    def id_like(self) -> float:
        """Share of the distinct values that are single words of letters and digits."""
        distinct = list(self.counts)[:2_000]
        return sum(bool(_ID.match(value)) for value in distinct) / max(len(distinct), 1)

    @cached_property
    def places(self) -> frozenset[Place]:
        """Record and element of each value; of a column outside the list the record alone."""
        if self.list_path is None:
            return frozenset((row, None) for row in self.rows)
        return frozenset(zip(self.rows, self.elements, strict=True))

    def covered(self, places: frozenset[Place]) -> frozenset[Place]:
        """Those of `places` where the column has a value."""
        if self.list_path is not None:
            return self.places & places
        return frozenset(place for place in places if place[0] in self.filled_rows)

    @cached_property
    def holds_lists(self) -> bool:
        """Whether most cells hold several values, such as `2,100,102`."""
        several = sum(count for value, count in self.counts.items() if _SEVERAL.match(value))
        return several * 2 > len(self.values) and self.times is None and not all(map(is_number, self.counts))

    def summary(self, *, example: bool) -> str:
        """The values in a few words; without an example where it could identify a user."""
        distinct = f"{len(self.counts):,} different values" if len(self.counts) > 1 else "one value"
        shown = f", such as {next(iter(self.counts), '')[:40]!r}" if example else ""
        return f"{distinct} in {len(self.filled_rows):,} of {self.records:,} records{shown}"


def sample_columns(table: RawTable, nulls: tuple[str, ...]) -> list[Column]:
    """Columns and paths of a table with at least one value."""
    columns = []
    nested: list[Column] = []
    for name, raw in table.columns.items():
        column = _flat_column(name, raw, len(table), nulls)
        content = _nested_content(raw)
        if content is not None:
            nested += _paths(name, content)
        elif column.values:
            columns.append(column)
    return columns + nested[:_MAX_PATHS]


def _flat_column(name: str, raw: pa.Array, records: int, nulls: tuple[str, ...]) -> Column:
    pairs = [(row, text) for row, text in enumerate(cleaned_text(raw, nulls).to_pylist()) if text is not None]
    is_time = pa.types.is_timestamp(raw.type) or pa.types.is_date(raw.type)
    return Column(name, [row for row, _ in pairs], [text for _, text in pairs], records, typed_times=is_time)


def _nested_content(raw: pa.Array) -> list[object] | None:
    """The nested values of a column's first records; None if it has none."""
    if pa.types.is_nested(raw.type):
        return list(raw[:_NESTED_ROWS].to_pylist())
    if not pa.types.is_string(raw.type):
        return None
    texts = raw[:_NESTED_ROWS].to_pylist()
    present = [text for text in texts if text and text.strip()]
    if not present or any(text.lstrip()[0] not in "{[" for text in present[:50]):
        return None
    values = [_load(text) for text in texts]
    return values if any(isinstance(value, dict | list) for value in values) else None


def _load(text: str | None) -> object:
    if not text:
        return None
    try:
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None


def _paths(root: str, content: list[object]) -> list[Column]:
    """A column for each path below `root` with plain values."""
    if _UNUSABLE_KEY.search(root):
        return []
    values_by_path: dict[str, tuple[str | None, list[int], list[str], list[int]]] = {}
    for row, value in enumerate(content):
        for path, list_path, element, text in _leaves(value, root, (None, 0), 0):
            if path in values_by_path or len(values_by_path) < _MAX_PATHS:
                entry = values_by_path.setdefault(path, (list_path, [], [], []))
                entry[1].append(row)
                entry[2].append(text)
                entry[3].append(element)
    return [
        Column(path, rows, texts, len(content), list_path, elements=elements if list_path else ())
        for path, (list_path, rows, texts, elements) in values_by_path.items()
    ]


def _leaves(
    value: object, path: str, place: tuple[str | None, int], depth: int
) -> Iterator[tuple[str, str | None, int, str]]:
    """Path, exploded list, number of its element, and text of each plain value inside `value`."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if str(key) and not _UNUSABLE_KEY.search(str(key)):
                yield from _leaves(entry, f"{path}.{key}", place, depth + 1)
    elif isinstance(value, list):
        yield from _list_leaves(value, path, place, depth)
    elif depth and (text := as_text(value)) is not None and text.strip():
        yield path, *place, text.strip()


def _list_leaves(
    value: list[object], path: str, place: tuple[str | None, int], depth: int
) -> Iterator[tuple[str, str | None, int, str]]:
    """A mapping explodes one list; of a list inside its elements only the first element is reached."""
    if not value:
        return
    if place[0] is not None:
        yield from _leaves(value[0], f"{path}[0]", place, depth + 1)
        return
    for number, entry in enumerate(value):
        if not isinstance(entry, list):
            yield from _leaves(entry, f"{path}[]", (path, number), depth + 1)
