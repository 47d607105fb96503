"""New rows into a lake file: old and new together, each once, sorted, hashed, in bounded memory."""

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
_RARELY_TWICE = ("event_id", "event_time", "session_id", "order_id", "properties", "attributes")
_FILTERED_ON = ["user_id", "event_time"]


class ContentHash:
    """Hash of a table's values in row order, however the rows are cut into pieces."""

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
        digests = (one.hexdigest() for hashers in self._hashers.values() for one in hashers)
        return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def merge(
    folder: LakeFolder,
    path: str,
    parts: list[pa.Table],
    old: LakeFile | None,
    keys: tuple[str, ...],
    *,
    range_bytes: int = RANGE_BYTES,
) -> LakeFile:
    """Write `parts` and the rows of `old` to `path`, sorted by `keys` (the first is `user_id`).

    Rows with the same keys are the same row and are written once. Memory is that of about
    `range_bytes` of rows: more are done in ranges of users, one after the other.

    Args:
        folder: the lake.
        path: the new file; readers do not see it before the manifest names it.
        parts: new rows, any order, all of one schema.
        old: the file that the new one supersedes.
        keys: identify a row; string columns and times.
        range_bytes: rows in memory at once; the result does not depend on it.
    """
    schema = parts[0].schema
    content = ContentHash(schema)
    rows, times = 0, []

    def fill(stream: Any) -> None:
        nonlocal rows
        with pq.ParquetWriter(
            stream,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=_repetitive(schema),
            write_statistics=[name for name in _FILTERED_ON if name in schema.names],
        ) as writer:
            for low, high in _ranges(folder, parts, old, range_bytes):
                table = _sorted_once(_between(folder, parts, old, low, high), keys)
                content.update(table)
                writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
                rows += len(table)
                if "event_time" in schema.names and len(table):
                    times.extend(pc.min_max(table["event_time"].cast(pa.int64())).as_py().values())

    size = folder.write(path, fill)
    return LakeFile(path, rows, size, content.hexdigest(), min(times, default=0), max(times, default=0))


def cut(folder: LakeFolder, file: LakeFile, before: datetime) -> LakeFile:
    """An event file as it would be of the rows before that instant alone; nothing is written.

    Only the file of the day that holds the instant has to be read.
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


def _repetitive(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name not in _RARELY_TWICE]


def _ranges(
    folder: LakeFolder, parts: list[pa.Table], old: LakeFile | None, range_bytes: int
) -> list[tuple[str | None, str | None]]:
    """Half-open ranges of user ids that together hold everything, each of about `range_bytes`."""
    new_rows = sum(len(part) for part in parts)
    size = sum(part.nbytes for part in parts)
    size += size * old.rows // max(1, new_rows) if old else 0
    count = size // range_bytes + 1
    if count == 1:
        return [(None, None)]
    users = [part["user_id"] for part in parts]
    if old:
        users.append(_read(folder, old, ["user_id"])["user_id"])
    sample = np.sort(np.concatenate([_sample(column) for column in users]))
    cuts = [str(sample[len(sample) * number // count]) for number in range(1, count)]
    bounds = [None, *sorted(set(cuts)), None]
    return list(pairwise(bounds))


def _sample(users: pa.ChunkedArray) -> Any:
    step = max(1, len(users) // SAMPLE_ROWS)
    return users.take(pa.array(np.arange(0, len(users), step))).to_numpy()


def _between(
    folder: LakeFolder, parts: list[pa.Table], old: LakeFile | None, low: str | None, high: str | None
) -> pa.Table:
    condition = None
    if low is not None:
        condition = pc.field("user_id") >= low
    if high is not None:
        below = pc.field("user_id") < high
        condition = below if condition is None else condition & below
    tables = [part if condition is None else part.filter(condition) for part in parts]
    if old:
        tables.append(_read(folder, old, None, condition).cast(parts[0].schema))
    return pa.concat_tables(tables)


def _read(folder: LakeFolder, file: LakeFile, columns: list[str] | None, condition: Any = None) -> pa.Table:
    return pq.read_table(
        folder.path_of(file.path),
        filesystem=folder.filesystem,
        columns=columns,
        filters=condition,
        partitioning=None,
        use_threads=False,
    )


def _sorted_once(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Sorted by `keys`; of neighbours that agree in all of them one is kept."""
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
