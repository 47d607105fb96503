"""Partitions of whole users, and their processing in threads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from retail_core.features.engine import open_engine
from retail_core.features.engine.duckdb_engine import map_in_threads, user_partitions
from retail_core.schemas import EVENT_ARROW

START = datetime(2025, 1, 1, tzinfo=UTC)


def test_a_path_is_no_pattern(tmp_path: Path) -> None:
    """A folder `a*` is read without its neighbour `ab`, which a copied home may be."""
    for folder in ("a*", "ab"):
        (tmp_path / folder).mkdir()
        parquet.write_table(pyarrow.table({"user_id": [folder]}), tmp_path / folder / "events.parquet")
    with open_engine() as engine:
        events = engine.parquet([str(tmp_path / "a*" / "events.parquet")])
        assert events.user_id.to_pyarrow().to_pylist() == ["a*"]


def reader(users: list[int], batch: int) -> pyarrow.RecordBatchReader:
    table = pyarrow.table({"uid": pyarrow.array(users, pyarrow.int64()), "row": range(len(users))})
    return pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches(batch))


@given(
    users=st.lists(st.integers(0, 9), max_size=60).map(sorted),
    pair_users=st.lists(st.integers(0, 9), min_size=1, max_size=20).map(sorted),
    batch=st.integers(1, 20),
    rows=st.integers(1, 20),
)
@settings(deadline=None)
def test_partitions_contain_whole_users_each_once(
    users: list[int], pair_users: list[int], batch: int, rows: int
) -> None:
    # The engine reads events of the pairs' users only.
    users = [user for user in users if user in pair_users]
    pairs = pyarrow.table({"uid": pair_users})
    partitions = [
        (of_pairs["uid"].to_pylist(), of_events["uid"].to_pylist())
        for of_pairs, of_events in user_partitions(pairs, reader(users, batch), rows)
    ]
    assert [user for of_pairs, _ in partitions for user in of_pairs] == pair_users
    assert [user for _, of_events in partitions for user in of_events] == users
    for i, (of_pairs, of_events) in enumerate(partitions):
        assert set(of_events) <= set(of_pairs)
        assert all(set(of_pairs).isdisjoint(earlier) for earlier, _ in partitions[:i])


def test_results_of_threads_are_in_the_order_of_the_partitions() -> None:
    tables = [(pyarrow.table({"uid": [n]}), pyarrow.table({"uid": [n]})) for n in range(20)]
    results = map_in_threads(lambda pairs, events: pyarrow.concat_tables([pairs, events]), tables, 3)
    assert [table["uid"].to_pylist() for table in results] == [[n, n] for n in range(20)]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def fail(pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        list(map_in_threads(fail, [(pyarrow.table({}), pyarrow.table({}))] * 3, 2))


def test_files_of_an_object_store_and_of_this_machine_are_read_together(tmp_path: Path) -> None:
    """As the leakage guard reads a lake in an object store whose last day it has cut off."""
    ids = ["in-the-store", "on-this-machine"]
    for event_id in ids:
        row = {"event_id": event_id, "user_id": "u", "event_time": START, "event_type": "view_item"}
        table = pyarrow.Table.from_pylist([row], schema=EVENT_ARROW)
        parquet.write_table(table, tmp_path / f"{event_id}.parquet")
    files = [(tmp_path / f"{ids[0]}.parquet").as_uri(), str(tmp_path / f"{ids[1]}.parquet")]
    with open_engine() as engine:
        rows = engine.to_arrow(engine.parquet(files).select("event_id"))
    assert sorted(rows["event_id"].to_pylist()) == ids
