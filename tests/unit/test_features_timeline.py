"""Shares of whole users, and stretches of cut-offs: what the features of many pairs are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_core.features.batch import feature_kernel
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.key_intervals import max_over_intervals
from retail_core.features.batch.timeline import Timeline
from retail_core.features.engine.duckdb_engine import map_in_threads, user_partitions
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import FeatureWindow
from tests.feature_logs import DAY, HOUR, micros, pairs_of, write_lake

NOW = micros("2025-01-31T00:00:00+00:00")


def reader(users: list[int], batch: int) -> pyarrow.RecordBatchReader:
    table = pyarrow.table({"uid": pyarrow.array(users, pyarrow.int64()), "row": range(len(users))})
    return pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches(batch))


@given(
    users=st.lists(st.integers(0, 9), max_size=60).map(sorted),
    asked=st.lists(st.integers(0, 9), min_size=1, max_size=20).map(sorted),
    batch=st.integers(1, 20),
    rows=st.integers(1, 20),
)
@settings(deadline=None)
def test_shares_hold_whole_users_and_everyone_once(
    users: list[int], asked: list[int], batch: int, rows: int
) -> None:
    # Only users of the pairs have events here.
    users = [user for user in users if user in asked]
    pairs = pyarrow.table({"uid": asked})
    found = [
        (share["uid"].to_pylist(), events["uid"].to_pylist())
        for share, events in user_partitions(pairs, reader(users, batch), rows)
    ]
    assert [user for share, _ in found for user in share] == asked
    assert [user for _, events in found for user in events] == users
    for share, events in found:
        assert set(events) <= set(share)
        assert {u for other, _ in found if other is not share for u in other}.isdisjoint(share)


def test_work_in_threads_keeps_the_order_of_the_parts() -> None:
    parts = [(pyarrow.table({"uid": [n]}), pyarrow.table({"uid": [n]})) for n in range(20)]
    done = map_in_threads(lambda pairs, events: pyarrow.concat_tables([pairs, events]), parts, 3)
    assert [table["uid"].to_pylist() for table in done] == [[n, n] for n in range(20)]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def fail(pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        raise ArithmeticError("no")

    with pytest.raises(ArithmeticError):
        list(map_in_threads(fail, [(pyarrow.table({}), pyarrow.table({}))] * 3, 2))


@given(
    stretches=st.lists(st.tuples(st.integers(0, 29), st.integers(1, 30), st.integers(-99, 99)), max_size=20)
)
def test_the_greatest_of_the_stretches_that_hold_a_pair(stretches: list[tuple[int, int, int]]) -> None:
    timeline = Timeline(
        pyarrow.table({name: pyarrow.array([], pyarrow.int64()) for name in ("uid", "ts", "code")}),
        pyarrow.table({"uid": [0] * 30, "as_of": range(30)}),
        (FeatureWindow("1d", DAY),),
        (),
    )
    kept = [(enter, min(enter + length, 30), value) for enter, length, value in stretches]
    enter, leave, values = np.array(kept, np.int64).reshape(-1, 3).T
    best = max_over_intervals(timeline, enter, leave, values)
    held = timeline.sum_over_intervals(enter, leave)
    for pair in range(30):
        over = [value for first, end, value in kept if first <= pair < end]
        assert held[pair] == len(over)
        if over:
            assert best[pair] == max(over)


@pytest.mark.parametrize(("pairs", "key"), [(3, 1 << 62), (100_000, 45 * DAY), (1, 1)])
def test_a_share_is_worked_on_in_parts_of_whole_users(
    pairs: int, key: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many pairs, or keys of user and time that would leave 64 bits: the features are the same."""
    rng = np.random.default_rng(2)
    events = [
        OnlineEvent(f"{i:032x}", f"u{rng.integers(9)}", NOW - int(rng.integers(40 * DAY)), "purchase", "a")
        for i in range(300)
    ]
    lake, feature_set = write_lake(tmp_path, events), default_feature_set(PredictionTask())
    asked = pairs_of((f"u{n}", NOW - back) for n in range(11) for back in (0, HOUR, 3 * DAY, 9 * DAY))
    whole = compute_features(lake, asked, feature_set)
    monkeypatch.setattr(feature_kernel, "_MAX_PAIRS", pairs)
    monkeypatch.setattr(feature_kernel, "_MAX_SORT_KEY", key)
    pd.testing.assert_frame_equal(compute_features(lake, asked, feature_set), whole, check_exact=True)
