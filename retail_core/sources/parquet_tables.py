"""Parquet files as tables of raw records. Its types are kept; texts must be as clean as those of a CSV."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from retail_core.arrow_compute import pc, pq, python_value
from retail_core.errors import InputError
from retail_core.sources.source import Problems, Table

CheckHeader = Callable[[tuple[str, ...]], None]


def parquet_tables(path: Path, check: CheckHeader, skip: int, rows: int) -> Iterator[tuple[Table, int]]:
    """Windows of at most `rows` rows after row `skip`, each with the bytes read so far.

    Raises:
        InputError: it is no whole Parquet file.
    """
    size = path.stat().st_size
    done = 0
    try:
        with pq.ParquetFile(path) as file:
            check(tuple(file.schema_arrow.names))
            for batch in file.iter_batches(batch_size=rows):
                start = max(skip - done, 0)
                done += batch.num_rows
                if start < batch.num_rows:
                    rest = batch.slice(start)
                    yield _table(rest, done), size * done // max(file.metadata.num_rows, 1)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a whole Parquet file: {str(error).splitlines()[0]}.", remedy="fetch it again."
        ) from error


def _table(batch: pa.RecordBatch, last: int) -> Table:
    problems: Problems = {}
    columns = {
        name: _clean(name, column, problems)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    first = last - batch.num_rows + 1

    def raw(row: int) -> str:
        values = {
            name: python_value(column[row]) for name, column in zip(columns, batch.columns, strict=True)
        }
        return json.dumps(values, default=str, ensure_ascii=False)

    table = Table(columns, np.arange(first, last + 1, dtype=np.int64), raw, (), first, last)
    return table.without(problems)[0] if problems else table


def _clean(name: str, column: pa.Array, problems: Problems) -> pa.Array:
    """Texts and bytes as UTF-8 text; what is none, or holds NUL, is null here and a problem of its row."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if not _textual(column.type):
        return column
    packed = column.cast(pa.binary())
    unclean: dict[int, str] = {}
    try:
        packed.cast(pa.string())
    except pa.ArrowInvalid:
        unclean = {row: "encoding" for row, value in enumerate(packed.to_pylist()) if not _utf8(value)}
    holds_nul = pc.fill_null(pc.match_substring(packed, "\x00"), False)
    unclean = dict.fromkeys(pc.indices_nonzero(holds_nul).to_pylist(), "nul") | unclean
    for row, rule in unclean.items():
        problems.setdefault(row, (name, rule, None))
    bad = np.isin(np.arange(len(column)), list(unclean))
    return pc.if_else(pa.array(bad), pa.scalar(None, pa.binary()), packed).cast(pa.string())


def _textual(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in (*tests, *binary, pa.types.is_binary_view))


def _utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
