"""Parts of the lake that need no database: merging files, the spool by day, ranges of window ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import fs

from retail_core.schemas import EVENT_ARROW, EVENT_COLUMNS
from retail_core.store.lake.folder import LakeFolder
from retail_core.store.lake.manifest import add_to_ranges
from retail_core.store.lake.merge import merge
from retail_core.store.lake.rows import Spool
from retail_core.store.lake.table import EVENT_KEYS

START = datetime(2025, 1, 1, tzinfo=UTC)


def _table(numbers: list[int]) -> pa.Table:
    rows = [
        {
            "event_id": f"{number:032x}",
            "user_id": f"u{number % 7}",
            "event_time": START + timedelta(milliseconds=number * 997 % 86_400_000),
            "event_type": "view_item",
            "properties": "{}",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in EVENT_COLUMNS} for row in rows], EVENT_ARROW
    )


def test_a_large_day_is_written_in_user_ranges_with_the_same_result(tmp_path: Path) -> None:
    # A file system that is not `local` takes the code path of an object store, which has no rename.
    (tmp_path / "store" / "x" / "events").mkdir(parents=True)
    remote = LakeFolder("x", fs.SubTreeFileSystem(str(tmp_path / "store"), fs.LocalFileSystem()))
    assert not remote.is_local
    old = merge(remote, "events/old.parquet", [_table(list(range(0, 900, 2)))], None, EVENT_KEYS)
    tables = [_table(list(range(1, 500))), _table(list(range(500, 1_000)))]
    single = merge(remote, "events/single.parquet", tables, old, EVENT_KEYS)
    in_ranges = merge(remote, "events/ranges.parquet", tables, old, EVENT_KEYS, range_bytes=20_000)
    assert single.rows == in_ranges.rows == 1_000
    assert single.hash == in_ranges.hash
    assert pq.ParquetFile(tmp_path / "store/x" / in_ranges.path).num_row_groups > 1
    remote.delete_except({"events/single.parquet"})
    assert set(remote.sizes()) == {"events/single.parquet"}


def test_a_spool_returns_the_same_tables_from_memory_and_from_disk(tmp_path: Path) -> None:
    tables = [_table(list(range(start, start + 100))) for start in range(0, 500, 100)]
    shifted = [
        table.set_column(2, EVENT_ARROW.field(2), pa.array(
            [t + timedelta(days=n % 3) for n, t in enumerate(table["event_time"].to_pylist())],
            EVENT_ARROW.field(2).type,
        ))
        for table in tables
    ]  # fmt: skip
    results = []
    for spill_bytes in (1, 30_000, 10**9):
        with Spool(tmp_path / "spool", spill_bytes=spill_bytes) as spool:
            for table in shifted:
                spool.add(table)
            days = spool.days()
            merged = {day: pa.concat_tables(spool.tables(day)).sort_by("event_id") for day in days}
            results.append({day: table.combine_chunks() for day, table in merged.items()})
    assert list(results[0]) == ["2025-01-01", "2025-01-02", "2025-01-03"]
    assert sum(len(table) for table in results[0].values()) == 500
    for result in results[1:]:
        assert all(result[day].equals(results[0][day]) for day in results[0])
    assert not (tmp_path / "spool").exists()


@given(st.lists(st.sets(st.integers(1, 40)), max_size=5))
def test_ranges_contain_exactly_the_added_numbers(groups: list[set[int]]) -> None:
    ranges: tuple[tuple[int, int], ...] = ()
    for group in groups:
        ranges = add_to_ranges(ranges, group)
    numbers = [number for first, last in ranges for number in range(first, last + 1)]
    assert numbers == sorted(set().union(*groups))
    assert all(after - before > 1 for (_, before), (after, _) in pairwise(ranges))
