"""Nothing at or after the cut-off, and nothing before the look-back, changes a feature."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.event_columns import OnlineEvent
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.feature_logs import DAY, HOUR, logs, micros, pairs_of, write_lake

NOW = micros("2025-03-31T00:00+02:00")
QUESTION = PredictionTask(lookback_days=5, timezone="Europe/Berlin")
FEATURES = default_feature_set(QUESTION)
# One of each kind in the batch, where every column costs time to compile; context has a test of its own.
FEW = FEATURES.select(
    name
    for name in FEATURES.names
    if not any(word in name for word in ("search", "list", "screen", "start", "shop"))
    or name == "hours_since_session_start"
)


def seen(events: list[OnlineEvent], now: int = NOW) -> list[OnlineEvent]:
    return [event for event in events if now - 5 * DAY <= event.event_time < now]


@given(events=logs(NOW, 5), noise=logs(NOW, 5), order=st.randoms())
@settings(max_examples=60, deadline=None)
def test_online_sees_only_the_lookback(
    events: list[OnlineEvent], noise: list[OnlineEvent], order: object
) -> None:
    own = [event for event in events if event.user_id == "u"]
    expected = compute_user_features(seen(own), from_micros(NOW), FEATURES)
    later = [
        event._replace(event_id=f"n{event.event_id}", event_time=time)
        for event in noise
        for time in (NOW + abs(NOW - event.event_time), NOW - 5 * DAY - 1000 - abs(NOW - event.event_time))
    ]
    mixed = own + later
    order.shuffle(mixed)  # type: ignore[attr-defined]
    assert compute_user_features(mixed, from_micros(NOW), FEATURES) == expected


@given(data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_batch_sees_only_the_lookback(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Several cut-offs at once: the events of a later one are the future of an earlier one."""
    folder = tmp_path_factory.mktemp("lake")
    events = data.draw(logs(NOW, 5))
    cutoffs = [NOW - 23 * HOUR, NOW, NOW + data.draw(st.sampled_from([0, 24 * HOUR, 7 * HOUR]))]
    pairs = pairs_of((user, t) for user in "uvw" for t in cutoffs)
    whole = compute_features(write_lake(folder, events), pairs, FEW)
    for cutoff in dict.fromkeys(cutoffs):
        alone = pairs[pairs["as_of"] == pd.Timestamp(cutoff, unit="us", tz="UTC")]
        lake = write_lake(folder, seen(events, cutoff)[::-1])
        pd.testing.assert_frame_equal(
            compute_features(lake, alone, FEW), whole.loc[alone.index], check_exact=True
        )


@given(data=st.data())
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_rows_and_labels(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Eligible users come from before the cut-off, labels from [t, t + horizon); exactly."""
    folder = tmp_path_factory.mktemp("lake")
    events = data.draw(logs(NOW, 5))
    question = PredictionTask(eligible_days=3, horizon_hours=6)
    cutoffs = [NOW - 3 * DAY, NOW - 6 * HOUR, NOW]
    lake = write_lake(folder, events)
    pairs = daily_pairs(lake, question, [from_micros(t) for t in cutoffs])
    assert list(zip(pairs["user_id"], pairs["as_of"], strict=True)) == [
        (user, pd.Timestamp(t, unit="us", tz="UTC"))
        for t in cutoffs
        for user in sorted({e.user_id for e in events if t - 3 * DAY <= e.event_time < t})
    ]
    every = pairs_of((user, t) for t in cutoffs for user in "uvw")
    labels = label_pairs(lake, question, every)
    expected = [
        any(
            e.user_id == user
            and e.event_type == "purchase"
            and t <= from_micros(e.event_time) < t + timedelta(hours=6)
            for e in events
        )
        for user, t in zip(every["user_id"], every["as_of"], strict=True)
    ]
    assert labels.tolist() == expected
