"""Features of encoded histories, many users at once, equal those of the online interpreter to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_core.attribution import MAX_TIME, MIN_TIME
from retail_core.features.batch.encoded_histories import (
    EncodedHistory,
    HistoryAtCutoff,
    HistoryLayout,
    compute_encoded,
    encode_history,
    history_layout,
)
from retail_core.features.batch.key_intervals import sort_by_key
from retail_core.features.cutoff_context import CONTEXT_MEASURES
from retail_core.features.event_columns import EventColumns
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.online.online_interpreter import compute_user_values
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.examples import examples
from tests.feature_logs import DAY, HOUR, logs, micros

BASE = micros("2025-03-30T00:00+01:00")
CONTEXT = {name: float(number) for number, (name, *_) in enumerate(CONTEXT_MEASURES)}


def assert_same_as_online(
    histories: list[EventColumns], cutoffs: list[tuple[int, int]], feature_set: FeatureSet
) -> None:
    """Cut-offs are (position of a history, instant in microseconds)."""
    encoded = [_encoded_twice(history, history_layout(feature_set)) for history in histories]
    items = [HistoryAtCutoff(encoded[n], from_micros(t), CONTEXT if t % 2000 else {}) for n, t in cutoffs]
    computed = compute_encoded(items, feature_set)
    for (number, instant), item, features in zip(cutoffs, items, computed, strict=True):
        online = compute_user_values(histories[number], item.as_of, feature_set, {}, item.context)
        np.testing.assert_array_equal(features.values, np.array(online, np.float64))
        lookback = feature_set.task.lookback_us
        times = [t for t in histories[number].event_time if instant - lookback <= t < instant]
        assert np.isnan(features.silent_hours) == (not times)
        assert not times or features.silent_hours == (instant - max(times)) / HOUR


def _encoded_twice(history: EventColumns, layout: HistoryLayout) -> EncodedHistory:
    """A history of which the events from the middle one on were added later."""
    if not history.event_time:
        return encode_history(history, layout)
    middle = sorted(history.event_time)[len(history.event_time) // 2]
    complete = encode_history(history, layout)
    first, second = history.within(MIN_TIME, middle), history.within(middle, MAX_TIME)
    in_two = encode_history(second, layout, encode_history(first, layout))
    assert len(in_two) == len(complete)
    assert len(complete.before(middle)) == len(first.event_time)
    return in_two


@given(data=st.data())
@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
def test_a_list_equals_its_single_users(data: st.DataObject) -> None:
    """Users without events, users that occur several times, events at the cut-off and after it included."""
    zone = data.draw(st.sampled_from(["Europe/Berlin", "UTC", "Australia/Lord_Howe"]))
    task = PredictionTask(lookback_days=data.draw(st.sampled_from([28, 28, 1, 40])), timezone=zone)
    events = data.draw(logs(BASE, task.lookback_days))
    histories = [EventColumns.from_events([e for e in events if e.user_id == user]) for user in "uvwx"]
    event_times = [event.event_time for event in events] or [BASE]
    instants = st.one_of(
        st.just(BASE),
        st.sampled_from(event_times),
        st.integers(-40 * HOUR, 2 * DAY).map(lambda x: BASE + x // 1000 * 1000),
        st.sampled_from([micros("1990-01-01T00:00+00:00"), micros("2400-01-01T00:00+00:00")]),
    )
    cutoffs = data.draw(st.lists(st.tuples(st.integers(0, 3), instants), min_size=1, max_size=12))
    assert_same_as_online(histories, cutoffs, default_feature_set(task))


@given(data=st.data())
@settings(max_examples=examples(20), deadline=None, suppress_health_check=list(HealthCheck))
def test_any_selection_of_features_is_computed(data: st.DataObject) -> None:
    full = default_feature_set(PredictionTask())
    names = data.draw(st.lists(st.sampled_from(full.names), min_size=1, max_size=4, unique=True))
    events = data.draw(logs(BASE, 28, max_size=20))
    assert_same_as_online([EventColumns.from_events(events)], [(0, BASE)], full.select(names))


def test_an_empty_list_and_a_list_without_events() -> None:
    feature_set = default_feature_set(PredictionTask())
    assert compute_encoded([], feature_set) == []
    assert_same_as_online([EventColumns()], [(0, BASE), (0, BASE + DAY)], feature_set)


@pytest.mark.parametrize("limit", [1, 50, 2**16, 2**16 + 1, 2**40])
def test_keys_are_sorted_stably_whatever_their_size(limit: int) -> None:
    keys = np.random.default_rng(5).integers(0, limit, 3_000)
    keys[7] = limit - 1
    np.testing.assert_array_equal(sort_by_key(np.arange(len(keys)), keys), np.argsort(keys, kind="stable"))
