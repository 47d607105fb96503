"""Rules of a mapping about whole rows: filters, columns filled down within an order, and refunds."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retail_core.arrow_compute import pc, python_value
from retail_core.sources.parse_notes import FilteredRows
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source
from retail_core.sources.source_options import ColumnValues
from retail_core.sources.text_cleaning import cleaned_text

Mask = npt.NDArray[np.bool_]


def matches(table: RawTable, condition: ColumnValues, nulls: tuple[str, ...]) -> Mask:
    """Records that meet a condition; a column that no record has is missing in all of them."""
    if condition.column not in table.columns:
        return np.full(len(table), None in condition.values)
    text = cleaned_text(table.columns[condition.column], nulls)
    exact = [value for value in condition.values if value is not None and "*" not in value]
    mask = pc.is_in(text, value_set=pa.array(exact, pa.string()))
    for value in condition.values:
        if value is None:
            mask = pc.or_(mask, text.is_null())
        elif "*" in value:
            pattern = "(?s)^" + ".*".join(map(re.escape, value.split("*"))) + "$"
            mask = pc.or_(mask, pc.fill_null(pc.match_substring_regex(text, pattern), False))
    result: Mask = mask.to_numpy(zero_copy_only=False)
    return result


def matches_any(table: RawTable, conditions: Sequence[ColumnValues], nulls: tuple[str, ...]) -> Mask:
    """Records that meet at least one condition."""
    masks = [matches(table, condition, nulls) for condition in conditions]
    return np.logical_or.reduce(masks) if masks else np.zeros(len(table), dtype=bool)


def filter_rows(table: RawTable, source: Source) -> tuple[RawTable, list[FilteredRows]]:
    """The records that the filters of `source` keep, and the numbers of the others by condition."""
    rules = source.rules
    if not (rules.keep or rules.drop):
        return table, []
    used = np.ones(len(table), dtype=bool)
    filtered = []
    for name, conditions in (("keep", rules.keep), ("drop", rules.drop)):
        for condition in conditions:
            mask = matches(table, condition, source.nulls)
            passed = mask if name == "keep" else ~mask
            if count := int((used & ~passed).sum()):
                filtered.append(FilteredRows(condition.column, name, None, count))
            used &= passed
    return table.take(np.flatnonzero(used)) if filtered else table, filtered


def drop_event_types(
    table: RawTable, types: pa.Array, source: Source
) -> tuple[RawTable, pa.Array, list[FilteredRows]]:
    """Records without the event types that the vocabulary of `source` maps to None, and their numbers."""
    dropped = [name for name, target in source.vocabulary.items() if target is None]
    if not dropped:
        return table, types, []
    mask = pc.is_in(types, value_set=pa.array(dropped, pa.string()))
    if not mask.true_count:
        return table, types, []
    counts = pc.value_counts(types.filter(mask)).to_pylist()
    column = source.raw_name("event_type")
    filtered = [FilteredRows(column, "event_type", entry["values"], entry["counts"]) for entry in counts]
    remaining = np.flatnonzero(~mask.to_numpy(zero_copy_only=False))
    return table.take(remaining), types.take(pa.array(remaining)), filtered


class FillDown:
    """Fills missing values of order-level columns from the row before of the same order.

    The last row is remembered from one window to the next.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._key: str | None = None
        self._values: dict[str, str | None] = {}

    def fill(self, table: RawTable) -> RawTable:
        """`table` with filled columns; the raw row of a filled record contains the filled values."""
        rules = self._source.rules
        if rules.fill_key is None or rules.fill_key not in table.columns:
            return table
        keys = self._texts(table, rules.fill_key)
        names = [name for name in rules.fill_columns if name in table.columns]
        cells = {name: self._texts(table, name) for name in names}
        filled_rows: dict[int, dict[str, str]] = {}
        for row, key in enumerate(keys):
            same_order = key is not None and key == self._key
            for name in names:
                inherited = self._values.get(name) if same_order else None
                if cells[name][row] is None and inherited is not None:
                    cells[name][row] = inherited
                    filled_rows.setdefault(row, {})[name] = inherited
            self._key, self._values = key, {name: cells[name][row] for name in names}
        if not filled_rows:
            return table
        columns = dict(table.columns) | {name: pa.array(cells[name], pa.string()) for name in names}
        return replace(table, columns=columns, raw=self._filled_raw(table, filled_rows))

    def _texts(self, table: RawTable, name: str) -> list[str | None]:
        texts: list[str | None] = cleaned_text(table.columns[name], self._source.nulls).to_pylist()
        return texts

    def _filled_raw(
        self, table: RawTable, filled_rows: Mapping[int, Mapping[str, str]]
    ) -> Callable[[int], str]:
        def raw(row: int) -> str:
            if row not in filled_rows:
                return table.raw(row)
            names = table.header or tuple(table.columns)
            cells = {name: python_value(table.columns[name][row]) for name in names}
            cells |= filled_rows[row]
            if not table.header:
                return json.dumps(cells, default=str, ensure_ascii=False)
            line = io.StringIO()
            csv.writer(line, delimiter=self._source.layout.delimiter, lineterminator="").writerow(
                [cells[name] for name in table.header]
            )
            return line.getvalue()

        return raw
