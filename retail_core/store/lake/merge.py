"""Merge new rows with a lake file: sorted, without duplicates, hashed, in bounded memory."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retail_core.store.lake.folder import LakeFolder
from retail_core.store.lake.manifest import LakeFile

RANGE_BYTES = 48_000_000
ROW_GROUP_ROWS = 131_072
SAMPLE_ROWS = 100_000
_MOSTLY_DISTINCT = ("event_id", "event_time", "session_id", "order_id", "properties", "attributes")
_FILTERED_ON = ["user_id", "event_time"]


class ContentHash:
    """Hash of a table's values in row order, independent of how the rows are split into tables."""

    def __init__(self, schema: pa.Schema) -> None:
        self._hashers = {name: [hashlib.sha256() for _ in range(3)] for name in schema.names}

    def update(self, table: pa.Table) -> None:
        """Add rows."""
        for name, (nulls, lengths, values) in self._hashers.items():
            column = pa.chunked_array(table[name].chunks, table[name].type).combine_chunks()
            nulls.update(column.is_null().cast(pa.uint8()).buffers()[1] or b"")
            if pa.types.is_string(column.type):
                filled = column.fill_null("")
                lengths.update(np.ascontiguousarray(pc.binary_length(filled).to_numpy()).data)
                offsets = np.frombuffer(filled.buffers()[1], np.int32)[filled.offset :][: len(filled) + 1]
                values.update(memoryview(filled.buffers()[2] or b"")[offsets[0] : offsets[-1]])
            else:
                numbers = column.cast(pa.int64()).fill_null(0).to_numpy()
                values.update(np.ascontiguousarray(numbers).data)

    def hexdigest(self) -> str:
        """32 hex digits."""
        digests = (hasher.hexdigest() for hashers in self._hashers.values() for hasher in hashers)
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def merge(
    folder: LakeFolder,
    path: str,
    tables: list[pa.Table],
    old: LakeFile | None,
    keys: tuple[str, ...],
    *,
    range_bytes: int = RANGE_BYTES,
) -> LakeFile:
    """Write new rows and those of `old` to `path`, sorted by `keys`, of which the first is `user_id`.

    Rows with equal keys are written once. About `range_bytes` of rows are in memory at a time: larger files
    are written in ranges of users.

    Args:
        folder: the lake.
        path: the new file; readers ignore it until the manifest names it.
        tables: new rows in any order, with one schema.
        old: the file that the new one replaces.
        keys: columns that identify a row, strings and times.
        range_bytes: limit of the rows in memory; the result does not depend on it.
    """
    schema = tables[0].schema
    content = ContentHash(schema)
    rows, times = 0, []

    def fill(stream: Any) -> None:
        nonlocal rows
        with pq.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=_dictionary_columns(schema),
            write_statistics=[name for name in _FILTERED_ON if name in schema.names],
        ) as writer:
            for low, high in _user_ranges(folder, tables, old, range_bytes):
                table = _sort_unique(_read_range(folder, tables, old, (low, high)), keys)
                content.update(table)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                rows += len(table)
                if "event_time" in schema.names and len(table):
                    times.extend(pc.min_max(table["event_time"].cast(pa.int64())).as_py().values())

    size = folder.write(path, fill)
    return LakeFile(path, rows, size, content.hexdigest(), min(times, default=0), max(times, default=0))


def truncate(folder: LakeFolder, file: LakeFile, before: datetime) -> LakeFile:
    """Description of an event file limited to rows before an aware instant; nothing is written.

    The file is read only if the instant is within its time range.
    """
    micros = (before - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if file.last < micros:
        return file
    if file.first >= micros:
        return LakeFile(file.path, 0, 0, "")
    with folder.filesystem.open_input_file(folder.path_of(file.path)) as stream:
        parquet = pq.ParquetFile(stream)
        content, rows, newest = ContentHash(parquet.schema_arrow), 0, file.first
        for batch in parquet.iter_batches(SAMPLE_ROWS, use_threads=False):
            early = pa.Table.from_batches([batch]).filter(pc.field("event_time") < before)
            content.update(early)
            rows += len(early)
            if len(early):
                newest = max(newest, pc.max(early["event_time"].cast(pa.int64())).as_py())
    return LakeFile(file.path, rows, file.size, content.hexdigest(), file.first, newest)


def _dictionary_columns(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name not in _MOSTLY_DISTINCT]


def _user_ranges(
    folder: LakeFolder, tables: list[pa.Table], old: LakeFile | None, range_bytes: int
) -> list[tuple[str | None, str | None]]:
    """Half-open ranges of user ids that cover all rows, each of about `range_bytes`."""
    new_rows = sum(len(table) for table in tables)
    size = sum(table.nbytes for table in tables)
    size += size * old.rows // max(1, new_rows) if old else 0
    count = size // range_bytes + 1
    if count == 1:
        return [(None, None)]
    users = [table["user_id"] for table in tables]
    if old:
        users.append(_read(folder, old, ["user_id"])["user_id"])
    sample = np.sort(np.concatenate([_sample(column) for column in users]))
    boundaries = [str(sample[len(sample) * number // count]) for number in range(1, count)]
    bounds = [None, *sorted(set(boundaries)), None]
    return list(pairwise(bounds))


def _sample(users: pa.ChunkedArray) -> Any:
    step = max(1, len(users) // SAMPLE_ROWS)
    return users.take(pa.array(np.arange(0, len(users), step))).to_numpy()


def _read_range(
    folder: LakeFolder,
    tables: list[pa.Table],
    old: LakeFile | None,
    user_range: tuple[str | None, str | None],
) -> pa.Table:
    low, high = user_range
    condition = None
    if low is not None:
        condition = pc.field("user_id") >= low
    if high is not None:
        below = pc.field("user_id") < high
        condition = below if condition is None else condition & below
    selected_tables = [table if condition is None else table.filter(condition) for table in tables]
    if old:
        selected_tables.append(_read(folder, old, None, condition).cast(tables[0].schema))
    return pa.concat_tables(selected_tables)


def _read(folder: LakeFolder, file: LakeFile, columns: list[str] | None, condition: Any = None) -> pa.Table:
    return pq.read_table(
        folder.path_of(file.path),
        filesystem=folder.filesystem,
        columns=columns,
        filters=condition,
        partitioning=None,
        use_threads=False,
    )


def _sort_unique(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Sort by `keys` and drop rows whose keys equal those of the row before."""
    table = table.combine_chunks().sort_by([(key, "ascending") for key in keys])
    if len(table) < 2:
        return table
    same: Any = None
    for key in reversed(keys):
        column = table[key].combine_chunks()
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        equal = pc.fill_null(pc.equal(before, after), False)
        both_null = pc.and_(before.is_null(), after.is_null())
        equal = pc.or_(equal, both_null)
        same = equal if same is None else pc.and_(same, equal)
    if not pc.any(same).as_py():
        return table
    return table.filter(pa.concat_arrays([pa.array([True]), pc.invert(same)]))
