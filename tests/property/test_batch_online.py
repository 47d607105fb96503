"""The batch and the online interpreter give equal features for any log, zone and cut-offs."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import ContextByDay, local_day
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from tests.examples import examples
from tests.feature_logs import DAY, HOUR, logs, micros, pairs_of, write_lake

# Midnights in Berlin around the change to summer time, UTC, Lord Howe with its half hour.
CUTOFFS = {
    "Europe/Berlin": [micros(f"2025-0{m}-{d}+0{o}:00") for m, d, o in (
        (3, "29T00:00", 1), (3, "30T00:00", 1), (3, "31T00:00", 2), (4, "01T00:00", 2))],
    "UTC": [micros(f"2025-03-{d}T00:00+00:00") for d in (28, 29, 30)],
    "Australia/Lord_Howe": [micros("2025-04-06T00:00+11:00"), micros("2025-04-07T00:00+10:30")],
}  # fmt: skip


def online_rows(
    events: list[OnlineEvent], pairs: pd.DataFrame, task: PredictionTask, context: ContextByDay
) -> pd.DataFrame:
    feature_set = default_feature_set(task)
    rows = []
    for user, as_of in zip(pairs["user_id"], pairs["as_of"].dt.to_pydatetime(), strict=True):
        user_events = [event for event in events if event.user_id == user]
        rows.append(
            compute_user_features(user_events, as_of, feature_set, context=context[local_day(as_of, task)])
        )
    return pd.DataFrame(rows, columns=list(feature_set.columns), index=pairs.index, dtype="float64")


def assert_same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(left, right, check_exact=True)


@given(data=st.data())
@settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
def test_batch_equals_online(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Equal to the bit, for midnights over clock changes and for arbitrary instants, at once or not."""
    folder = tmp_path_factory.mktemp("lake")
    zone = data.draw(st.sampled_from(sorted(CUTOFFS)))
    task = PredictionTask(lookback_days=data.draw(st.sampled_from([28, 28, 1, 5, 40])), timezone=zone)
    cutoffs = CUTOFFS[zone]
    events = data.draw(logs(max(cutoffs), task.lookback_days))
    offsets = data.draw(
        st.lists(st.integers(-40 * HOUR, 2 * DAY).map(lambda x: x // 1000 * 1000), max_size=2)
    )
    daily = pairs_of((user, t) for user in "uvwx" for t in cutoffs)
    arbitrary = pairs_of((user, max(cutoffs) + x) for user in "uv" for x in offsets)
    all_pairs = pd.concat([daily, arbitrary], ignore_index=True).drop_duplicates(ignore_index=True)
    feature_set = default_feature_set(task)

    noisy = events * 2
    random.Random(1).shuffle(noisy)
    lake = write_lake(folder, events)
    names = list(feature_set.columns)
    daily_rows = compute_features(lake, daily, feature_set)
    all_rows = compute_features(lake, all_pairs, feature_set)

    context = context_by_day(lake, task, {local_day(t, task) for t in all_pairs["as_of"].dt.to_pydatetime()})
    assert_same(all_rows[names], online_rows(noisy, all_pairs, task, context))
    assert_same(daily_rows, all_rows.iloc[: len(daily)])
    assert np.isfinite(daily_rows["event_count_1h"]).all()
