"""Data files of the lake: sorted, each row once, with page checksums, written in bounded memory."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.file_checks import checksum
from retail_core.store.lake.lake_file import DamagedFileError, LakeFile
from retail_core.store.lake.location import LakeLocation
from retail_core.temporary_files import temporary_folder

RANGE_BYTES = 48_000_000
ROW_GROUP_ROWS = 131_072
SAMPLE_ROWS = 100_000
_COPY_BYTES = 1 << 20
_MOSTLY_DISTINCT = ("event_id", "event_time", "session_id", "order_id", "properties", "attributes")
_FILTERED_ON = ("user_id", "event_time")


@dataclass(frozen=True)
class Rows:
    """Rows of one new file: tables in any order, rows of present files, without those of one user.

    Attributes:
        tables: new rows, of the columns of the table's files.
        files: present files whose rows are also in the new one.
        without_user: a user whose rows are left out.
    """

    tables: Sequence[pa.Table] = ()
    files: Sequence[LakeFile] = ()
    without_user: str | None = None


def write_file(
    table: LakeTable, rows: Rows, partition: tuple[str, ...] = (), *, range_bytes: int = RANGE_BYTES
) -> LakeFile | None:
    """Write rows, sorted by the table's keys; those with equal keys once. None if there are none.

    Readers ignore the file until a commit adds it. About `range_bytes` of rows are in memory at a time:
    larger files are written in ranges of users.

    Args:
        table: to which a commit is going to add the file.
        rows: what to write.
        partition: values of the partition columns.
        range_bytes: limit of the rows in memory; the rows do not depend on it.

    Raises:
        DamagedFileError: a present file cannot be read.
    """
    spec, count, times = table.spec, 0, []
    names = (f"{field.name}={value}/" for field, value in zip(spec.partitions, partition, strict=True))
    folder = "".join(names)
    with _unnamed_file(table.location, f"{spec.name}/{folder}") as path:
        with path.open("wb") as stream:
            with _writer(stream, spec.files) as writer:
                for user_range in _user_ranges(table, rows, range_bytes):
                    part = _sort_unique(_read_range(table, rows, user_range), spec.keys)
                    writer.write_table(part, row_group_size=ROW_GROUP_ROWS)
                    count += len(part)
                    times += [
                        t
                        for t in pc.min_max(part[spec.time].cast(pa.int64())).as_py().values()
                        if t is not None
                    ]
            stream.flush()
            os.fsync(stream.fileno())
        if not count:
            return None
        with path.open("rb") as stream:
            name = f"{folder}{uuid.uuid4().hex}-{checksum(stream)}.parquet"
        size = path.stat().st_size
        _move(path, table.location, f"{spec.name}/{name}")
    return LakeFile(name, count, size, partition, min(times, default=None), max(times, default=None))


def user_rows(table: LakeTable, file: LakeFile, user_id: str) -> int:
    """Number of the user's rows in a file."""
    return len(read_rows(table, file, ["user_id"], pc.field("user_id") == user_id))


def _full_path(table: LakeTable, path: str) -> str:
    return table.location.path_of(f"{table.spec.name}/{path}")


@contextmanager
def _unnamed_file(location: LakeLocation, folder: str) -> Iterator[Path]:
    """Path of a file whose name its content gives: in `folder`, for an object store in a temporary one."""
    if not location.is_local:
        with temporary_folder("retail-") as temporary:
            yield temporary / "unnamed.parquet"
        return
    path = Path(location.path_of(folder)) / f"{uuid.uuid4().hex}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _move(path: Path, location: LakeLocation, name: str) -> None:
    if location.is_local:
        path.rename(location.path_of(name))
        return
    try:
        with (
            path.open("rb") as content,
            location.filesystem.open_output_stream(location.path_of(name)) as out,
        ):
            shutil.copyfileobj(content, out, _COPY_BYTES)
    except BaseException:
        location.delete(name)
        raise


def _writer(stream: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in schema.names if name not in _MOSTLY_DISTINCT],
        write_statistics=[name for name in _FILTERED_ON if name in schema.names],
        write_page_checksum=True,
    )


def _user_ranges(table: LakeTable, rows: Rows, range_bytes: int) -> list[tuple[str | None, str | None]]:
    """Half-open ranges of user ids that cover all rows, each of about `range_bytes`."""
    new_rows, size = sum(map(len, rows.tables)), sum(part.nbytes for part in rows.tables)
    row_bytes = size / new_rows if new_rows else 200
    size += int(row_bytes * sum(file.rows for file in rows.files))
    count = size // range_bytes + 1
    if count == 1:
        return [(None, None)]
    users = [part["user_id"] for part in rows.tables]
    users += [read_rows(table, file, ["user_id"])["user_id"] for file in rows.files]
    sample = np.sort(np.concatenate([_sample(column) for column in users]))
    boundaries = [str(sample[len(sample) * number // count]) for number in range(1, count)]
    bounds = [None, *sorted(set(boundaries)), None]
    return list(pairwise(bounds))


def _sample(users: pa.ChunkedArray) -> Any:
    step = max(1, len(users) // SAMPLE_ROWS)
    return users.take(pa.array(np.arange(0, len(users), step))).to_numpy()


def _read_range(table: LakeTable, rows: Rows, user_range: tuple[str | None, str | None]) -> pa.Table:
    low, high = user_range
    conditions = []
    if low is not None:
        conditions.append(pc.field("user_id") >= low)
    if high is not None:
        conditions.append(pc.field("user_id") < high)
    if rows.without_user is not None:
        conditions.append(pc.field("user_id") != rows.without_user)
    condition = None
    for part in conditions:
        condition = part if condition is None else condition & part
    selected = [part if condition is None else part.filter(condition) for part in rows.tables]
    selected += [read_rows(table, file, None, condition).cast(table.spec.files) for file in rows.files]
    return pa.concat_tables(selected)


def read_rows(
    table: LakeTable, file: LakeFile, columns: list[str] | None = None, condition: Any = None
) -> pa.Table:
    """Rows of a file that fulfil a condition.

    Raises:
        DamagedFileError: the file is not what was committed.
    """
    table.urls_of([file])
    try:
        return pq.read_table(
            _full_path(table, file.path),
            filesystem=table.location.filesystem,
            columns=columns,
            filters=condition,
            partitioning=None,
            use_threads=False,
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise DamagedFileError(f"{table.url_of(file)} cannot be read: {reason}") from error


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
