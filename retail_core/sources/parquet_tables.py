"""Parquet files as tables of raw records, with the file's types; text is checked like that of a CSV."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from retail_core.arrow_compute import pc, pq, python_value
from retail_core.errors import InputError
from retail_core.sources.raw_table import Problems, RawTable


class CheckHeader(Protocol):
    """Called with the column names of a file; raises InputError if the source cannot read them.

    `complete` is False if later records can have further columns.
    """

    def __call__(self, header: tuple[str, ...], *, complete: bool = True) -> None:
        """Check `header`."""


def parquet_tables(path: Path, check: CheckHeader, skip: int, rows: int) -> Iterator[tuple[RawTable, int]]:
    """Windows of at most `rows` rows after row `skip`, each with an estimate of the bytes read so far.

    Raises:
        InputError: the file is not a complete Parquet file, or `check` rejects its columns.
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
                    yield _table(batch.slice(start), done), size * done // max(file.metadata.num_rows, 1)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} is not a complete Parquet file: {str(error).splitlines()[0]}.",
            remedy="download or copy it again.",
        ) from error


def _table(batch: pa.RecordBatch, last: int) -> RawTable:
    problems: Problems = {}
    columns = {
        name: _checked_text(name, column, problems)
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    }
    first = last - batch.num_rows + 1

    def raw(row: int) -> str:
        values = {
            name: python_value(column[row]) for name, column in zip(columns, batch.columns, strict=True)
        }
        return json.dumps(values, default=str, ensure_ascii=False)

    table = RawTable(columns, np.arange(first, last + 1, dtype=np.int64), raw, (), first, last)
    return table.refuse(problems)[0] if problems else table


def _checked_text(name: str, column: pa.Array, problems: Problems) -> pa.Array:
    """Text and bytes as UTF-8 text; undecodable values and those with NUL become null and a problem."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if not _is_text_or_binary(column.type):
        return column
    binary = column.cast(pa.binary())
    broken: dict[int, str] = {}
    try:
        binary.cast(pa.string())
    except pa.ArrowInvalid:
        broken = {row: "encoding" for row, value in enumerate(binary.to_pylist()) if not _is_utf8(value)}
    contains_nul = pc.fill_null(pc.match_substring(binary, "\x00"), False)
    broken = dict.fromkeys(pc.indices_nonzero(contains_nul).to_pylist(), "nul") | broken
    for row, rule in broken.items():
        problems.setdefault(row, (name, rule, None))
    is_broken = np.isin(np.arange(len(column)), list(broken))
    return pc.if_else(pa.array(is_broken), pa.scalar(None, pa.binary()), binary).cast(pa.string())


def _is_text_or_binary(kind: pa.DataType) -> bool:
    text_types = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary_types = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_type(kind) for is_type in (*text_types, *binary_types, pa.types.is_binary_view))


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
