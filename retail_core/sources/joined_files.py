"""Join columns of a second file of a log, such as a catalogue or the orders of order lines, to each row.

The joined file is read as a whole when the mapping is read, so that its size is limited; the log itself is
still read in windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from retail_core.arrow_compute import pc
from retail_core.errors import InputError
from retail_core.sources.compressed_files import content_hash
from retail_core.sources.raw_paths import has_column
from retail_core.sources.raw_table import RawTable
from retail_core.sources.raw_tables import read_raw_tables
from retail_core.sources.source import Source
from retail_core.sources.source_options import JoinedFile, Layout
from retail_core.sources.text_cleaning import as_text_column, cleaned_ids

MAX_ROWS = 1_000_000
"""Rows of a joined file; each takes about 150 bytes of memory beside its columns."""

MAX_BYTES = 1 << 30
"""Bytes of the columns of a joined file."""

MATCHED = "\x00matched"
"""Column of a table between joining and parsing: whether the row has a match in every joined file."""

_KEY_SEPARATOR = "\x1f"


@dataclass
class _Content:
    """Rows of a joined file read so far."""

    chunks: dict[str, list[pa.Array]]
    row_of_key: dict[str, int] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    size: int = 0


def read_joined_file(
    path: Path, on: Sequence[tuple[str, str]], columns: Sequence[str], layout: Layout, nulls: tuple[str, ...]
) -> JoinedFile:
    """Read the key and some columns of a file whose key is unique.

    Args:
        path: CSV, .gz, .zst, Parquet or JSON lines.
        on: pairs of a column of the log and the column of `path` that it equals.
        columns: columns of `path` to join.
        layout: of a text file.
        nulls: text that stands for a missing value.

    Raises:
        InputError: no such file, more than `MAX_ROWS` rows or `MAX_BYTES`, an absent column, an unreadable
            row, or a key that is missing or occurs twice.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path} to join.", remedy="its path is relative to the mapping.")
    keys = [key for _, key in on]
    source = Source(path.name, {}, layout=layout)
    content = _Content({name: [] for name in columns})
    for table, _ in read_raw_tables(path, source, lambda _header, *, complete=True: None):  # noqa: ARG005
        _add(content, table, path, (keys, nulls))
    chunks = {name: pa.chunked_array(arrays, pa.string()) for name, arrays in content.chunks.items()}
    return JoinedFile(
        name=path.name,
        sha256=content_hash(path),
        on=tuple(on),
        columns={name: chunked.combine_chunks() for name, chunked in chunks.items()},
        row_of_key=content.row_of_key,
    )


def _add(content: _Content, table: RawTable, path: Path, key: tuple[list[str], tuple[str, ...]]) -> None:
    if table.refused:
        refused = table.refused[0]
        raise InputError(
            f"Line {refused.line} of {path}, which is joined, cannot be read: {refused.rule}.",
            remedy=f"{refused.remedy}.",
        )
    keys, nulls = key
    absent = [name for name in (*keys, *content.chunks) if name not in table.columns]
    if absent:
        raise InputError(
            f"{path}, which is joined, has no column {absent[0]!r}; its columns are "
            f"{', '.join(table.columns)[:200]}.",
            remedy="correct the name under join in the mapping.",
        )
    texts = _keys([table.columns[name] for name in keys], nulls).to_pylist()
    for text, line in zip(texts, table.lines.tolist(), strict=True):
        _add_key(content, text, line, f"{path}, which is joined,", ", ".join(keys))
    for name, chunks in content.chunks.items():
        column = as_text_column(table.columns[name])
        chunks.append(column)
        content.size += column.nbytes
    if len(content.lines) > MAX_ROWS or content.size > MAX_BYTES:
        raise InputError(
            f"{path}, which is joined, has more than {MAX_ROWS:,} rows or {MAX_BYTES >> 20:,} MiB.",
            remedy="join only the rows and columns that the log needs, or join the files yourself.",
        )


def _add_key(content: _Content, key: str | None, line: int, subject: str, names: str) -> None:
    if key is None:
        raise InputError(
            f"{subject} has no {names} in line {line}.", remedy="fill in the key, or remove the row."
        )
    row = content.row_of_key.setdefault(key, len(content.lines))
    if row != len(content.lines):
        shown = key.replace(_KEY_SEPARATOR, ", ")[:100]
        raise InputError(
            f"{subject} has the {names} {shown!r} in lines {content.lines[row]} and {line}.",
            remedy="leave one row for each key.",
        )
    content.lines.append(line)


def _keys(columns: Sequence[pa.Array], nulls: tuple[str, ...]) -> pa.Array:
    """Cleaned key of each row; null if a part of it is missing."""
    key_columns = [cleaned_ids(column, nulls) for column in columns]
    return (
        key_columns[0] if len(key_columns) == 1 else pc.binary_join_element_wise(*key_columns, _KEY_SEPARATOR)
    )


def join_columns(table: RawTable, source: Source) -> RawTable:
    """`table` with the columns of the joined files and `MATCHED`; rows without a match have null there."""
    if not source.joins:
        return table
    if (repeated := next(ambiguous_columns(source, table.columns), None)) is not None:
        raise InputError(
            f"The rows of lines {table.first:,} to {table.last:,} and a joined file both have {repeated!r}; "
            "the rows before are kept.",
            remedy="rename one of them, or leave it out of the columns to join.",
        )
    columns = dict(table.columns)
    matched: npt.NDArray[np.bool_] = np.ones(len(table), dtype=bool)
    for joined in source.joins:
        missing = pa.nulls(len(table), pa.string())
        keys = _keys([columns.get(name, missing) for name, _ in joined.on], source.nulls).to_pylist()
        rows = pa.array([None if key is None else joined.row_of_key.get(key) for key in keys], pa.int64())
        matched &= rows.is_valid().to_numpy(zero_copy_only=False)
        columns |= {name: values.take(rows) for name, values in joined.columns.items()}
    return replace(table, columns=columns | {MATCHED: pa.array(matched)})


def without_matches(table: RawTable) -> tuple[RawTable, npt.NDArray[np.int64]]:
    """`table` without the column `MATCHED`, and the rows that have no match."""
    if MATCHED not in table.columns:
        return table, np.empty(0, dtype=np.int64)
    matched = table.columns[MATCHED].to_numpy(zero_copy_only=False)
    columns = {name: column for name, column in table.columns.items() if name != MATCHED}
    return replace(table, columns=columns), np.flatnonzero(~matched)


def joined_user_ids(table: RawTable, source: Source) -> dict[int, tuple[str, ...]]:
    """Ids of users that rows have from joined files only, by line; empty where joined files have none.

    Args:
        table: the rows with their joined columns.
        source: dialect of the rows.
    """
    joined_names = {name for joined in source.joins for name in joined.columns}
    columns = [
        cleaned_ids(table.columns[name], source.nulls).to_pylist()
        for name in (*source.user_columns(), *source.links.previous)
        if name in joined_names
    ]
    by_line: dict[int, tuple[str, ...]] = {}
    for line, *values in zip(table.lines.tolist(), *columns, strict=True) if columns else ():
        if any(values):
            ids = (*by_line.get(line, ()), *(value for value in values if value))
            by_line[line] = tuple(dict.fromkeys(ids))
    return by_line


def ambiguous_columns(source: Source, header: Iterable[str]) -> Iterator[str]:
    """Columns that both the log and a joined file have, and those that two joined files have."""
    present = set(header)
    for joined in source.joins:
        yield from (name for name in joined.columns if name in present)
        present |= joined.columns.keys()


def joined_names(source: Source, header: Sequence[str]) -> set[str]:
    """`header` and the columns of the joined files."""
    return {*header, *(name for joined in source.joins for name in joined.columns)}


def absent_keys(source: Source, header: Sequence[str]) -> list[str]:
    """Key columns that neither the log nor an earlier joined file has."""
    present, absent = set(header), []
    for joined in source.joins:
        absent += [name for name, _ in joined.on if not has_column(name, present)]
        present |= joined.columns.keys()
    return absent
