"""The columns that a source reads of a raw table, and JSON lines as tables of just these columns.

Separate from `json_tables.py`, which knows no source.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.sources.cell_lists import split_cells
from retail_core.sources.json_columns import JsonColumns
from retail_core.sources.json_tables import flat_json_lines
from retail_core.sources.nested_paths import resolve_paths
from retail_core.sources.plain_elements import PLAIN_ELEMENT
from retail_core.sources.raw_table import RawTable
from retail_core.sources.source import Source

_SLICE_ROWS = 200
"""Python objects of that many rows exist at a time, since they take ten times the memory of the raw rows."""


def with_file_columns(table: RawTable, source: Source) -> RawTable:
    """`table` with the columns as `source` spells them, and those that it finds inside of others."""
    if table.file_columns is not None:
        return table
    table = with_spelled_columns(table, source)
    is_nested = any(pa.types.is_nested(column.type) for column in _typed_columns(table))
    if not is_nested or len(table) <= _SLICE_ROWS:
        return _with_nested_columns(table, source)
    starts = range(0, len(table), _SLICE_ROWS)
    with _paused_garbage_collection():
        slices = [
            _only_read(_with_nested_columns(_rows_from(table, start), source), source) for start in starts
        ]
    raw_rows, ends = [piece.raw for piece in slices], np.cumsum([len(piece) for piece in slices])

    def raw(row: int) -> str:
        piece = int(np.searchsorted(ends, row, side="right"))
        return raw_rows[piece](row - int(ends[piece - 1]) if piece else row)

    return replace(
        table,
        columns=_concatenated(slices),
        lines=np.concatenate([piece.lines for piece in slices]),
        raw=raw,
        file_columns=tuple(table.columns),
        exploded=any(piece.exploded for piece in slices),
    )


def with_spelled_columns(table: RawTable, source: Source) -> RawTable:
    """`table` with the names of columns as `source` spells them."""
    names = tuple(table.columns)
    spelled = source.spelled(names)
    if spelled == names:
        return table
    columns = dict(zip(spelled, table.columns.values(), strict=True))
    return replace(table, columns=columns, header=source.spelled(table.header))


def _typed_columns(table: RawTable) -> Iterable[pa.Array]:
    return () if isinstance(table.columns, JsonColumns) else table.columns.values()


def _rows_from(table: RawTable, start: int) -> RawTable:
    """`_SLICE_ROWS` records, without those that are refused already."""
    columns = {name: column.slice(start, _SLICE_ROWS) for name, column in table.columns.items()}
    lines, raw = table.lines[start : start + _SLICE_ROWS], table.raw
    return replace(table, columns=columns, lines=lines, raw=lambda row: raw(start + row), refused=())


def _with_nested_columns(table: RawTable, source: Source) -> RawTable:
    resolved = resolve_paths(split_cells(table, source), source)
    if source.derive is not None:
        resolved = resolved.with_columns(source.derive(resolved, source))
    exploded = len(resolved) > len(table)
    return replace(resolved, file_columns=tuple(table.columns), exploded=exploded)


def json_window(lines: list[str], base: int, source: Source) -> RawTable:
    """JSON lines as a table of the columns that `source` reads; `base` as in `json_lines`."""
    if source.rules.fill_key is not None or source.rows == "users" or source.joins:
        # These need further columns, or columns as they are before paths are resolved.
        return flat_json_lines(lines, base)
    starts = range(0, len(lines), _SLICE_ROWS)
    with _paused_garbage_collection():
        slices = [_slice(lines[start : start + _SLICE_ROWS], base + start, source) for start in starts]
    numbers = np.concatenate([table.lines for table in slices]) if slices else np.empty(0, np.int64)
    file_columns = dict.fromkeys(name for table in slices for name in table.file_columns or ())
    return RawTable(
        _concatenated(slices),
        numbers,
        lambda row: lines[int(numbers[row]) - base - 1].rstrip("\r\n"),
        tuple(refused for table in slices for refused in table.refused),
        base + 1,
        base + len(lines),
        file_columns=tuple(file_columns),
        exploded=any(table.exploded for table in slices),
    )


@contextmanager
def _paused_garbage_collection() -> Iterator[None]:
    """Without the search for cycles, of which parsed JSON has none; it would take most of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _slice(lines: list[str], base: int, source: Source) -> RawTable:
    return _only_read(with_file_columns(flat_json_lines(lines, base), source), source)


def _only_read(table: RawTable, source: Source) -> RawTable:
    """`table` with the columns that `source` reads; all, where a row is identified by all."""
    names = tuple(table.columns)
    if source.properties is not None and source.identity.columns:
        read = {*source.mapped_columns(), PLAIN_ELEMENT}
        names = tuple(name for name in names if name in read)
    return replace(table, columns={name: table.columns[name] for name in names})


def _concatenated(tables: Sequence[RawTable]) -> dict[str, pa.Array]:
    """Columns of all tables; null where a table lacks one."""
    names = dict.fromkeys(name for table in tables for name in table.columns)
    return {
        name: pa.concat_arrays(
            [
                table.columns[name] if name in table.columns else pa.nulls(len(table), pa.string())
                for table in tables
            ]
        )
        for name in names
    }
