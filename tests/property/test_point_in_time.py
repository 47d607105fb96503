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
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.examples import examples
from tests.feature_logs import DAY, HOUR, logs, micros, pairs_of, write_lake

AS_OF = micros("2025-03-31T00:00+02:00")
TASK = PredictionTask(lookback_days=5, timezone="Europe/Berlin")
FEATURES = default_feature_set(TASK)
# Fewer event types in the batch, where every column takes time; context features have tests of their own.
BATCH_FEATURES = FEATURES.select(
    name
    for name in FEATURES.names
    if not any(word in name for word in ("search", "list", "screen", "start", "shop"))
    or name == "hours_since_session_start"
)


def within_lookback(events: list[OnlineEvent], as_of: int = AS_OF) -> list[OnlineEvent]:
    return [event for event in events if as_of - 5 * DAY <= event.event_time < as_of]


@given(events=logs(AS_OF, 5), noise=logs(AS_OF, 5), order=st.randoms())
@settings(max_examples=examples(60), deadline=None)
def test_online_uses_only_the_lookback(
    events: list[OnlineEvent], noise: list[OnlineEvent], order: object
) -> None:
    user_events = [event for event in events if event.user_id == "u"]
    expected = compute_user_features(within_lookback(user_events), from_micros(AS_OF), FEATURES)
    outside_lookback = [
        event._replace(event_id=f"n{event.event_id}", event_time=time)
        for event in noise
        for time in (
            AS_OF + abs(AS_OF - event.event_time),
            AS_OF - 5 * DAY - 1000 - abs(AS_OF - event.event_time),
        )
    ]
    mixed = user_events + outside_lookback
    order.shuffle(mixed)  # type: ignore[attr-defined]
    assert compute_user_features(mixed, from_micros(AS_OF), FEATURES) == expected


@given(data=st.data())
@settings(max_examples=examples(6), deadline=None, suppress_health_check=list(HealthCheck))
def test_batch_uses_only_the_lookback(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Several cut-offs at once: the events of a later one are the future of an earlier one."""
    folder = tmp_path_factory.mktemp("lake")
    events = data.draw(logs(AS_OF, 5))
    cutoffs = [AS_OF - 23 * HOUR, AS_OF, AS_OF + data.draw(st.sampled_from([0, 24 * HOUR, 7 * HOUR]))]
    pairs = pairs_of((user, t) for user in "uvw" for t in cutoffs)
    all_rows = compute_features(write_lake(folder, events), pairs, BATCH_FEATURES)
    for cutoff in dict.fromkeys(cutoffs):
        cutoff_pairs = pairs[pairs["as_of"] == pd.Timestamp(cutoff, unit="us", tz="UTC")]
        lake = write_lake(folder, within_lookback(events, cutoff)[::-1])
        pd.testing.assert_frame_equal(
            compute_features(lake, cutoff_pairs, BATCH_FEATURES),
            all_rows.loc[cutoff_pairs.index],
            check_exact=True,
        )


@given(data=st.data())
@settings(max_examples=examples(10), deadline=None, suppress_health_check=list(HealthCheck))
def test_eligible_users_and_labels_respect_the_cutoff(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Eligible users have an event before the cut-off, labels are of [t, t + horizon)."""
    folder = tmp_path_factory.mktemp("lake")
    events = data.draw(logs(AS_OF, 5))
    task = PredictionTask(eligible_days=3, horizon_hours=6)
    cutoffs = [AS_OF - 3 * DAY, AS_OF - 6 * HOUR, AS_OF]
    lake = write_lake(folder, events)
    pairs = daily_pairs(lake, task, [from_micros(t) for t in cutoffs])
    assert list(zip(pairs["user_id"], pairs["as_of"], strict=True)) == [
        (user, pd.Timestamp(t, unit="us", tz="UTC"))
        for t in cutoffs
        for user in sorted({e.user_id for e in events if t - 3 * DAY <= e.event_time < t})
    ]
    pairs_to_label = pairs_of((user, t) for t in cutoffs for user in "uvw")
    labels = label_pairs(lake, task, pairs_to_label)
    expected = [
        any(
            e.user_id == user
            and e.event_type == "purchase"
            and t <= from_micros(e.event_time) < t + timedelta(hours=6)
            for e in events
        )
        for user, t in zip(pairs_to_label["user_id"], pairs_to_label["as_of"], strict=True)
    ]
    assert labels.tolist() == expected
