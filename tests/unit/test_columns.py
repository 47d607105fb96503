"""One user's events as columns: of the same id the first stays, whatever comes later."""

from __future__ import annotations

from bentos.predictor import merge_events
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.event_columns import EventColumns, OnlineEvent
from retail_core.features.online.online_interpreter import compute_user_features, compute_user_values
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.feature_logs import HOUR, micros

NOW = micros("2025-02-01T00:00:00+00:00")


def event(number: int, hours: int, event_type: str = "view_item") -> OnlineEvent:
    return OnlineEvent(
        f"{number:032x}", "u", NOW - hours * HOUR, event_type, f"i{number % 2}", "c", None, 100
    )


def test_events_as_columns_keep_their_order() -> None:
    columns = EventColumns.from_events([event(1, 5), event(2, 9, "purchase")])
    assert columns.event_type == ("view_item", "purchase")
    assert columns.event_time == (NOW - 5 * HOUR, NOW - 9 * HOUR)
    assert EventColumns.from_events([]) == EventColumns()


def test_a_stored_event_stays_where_another_is_sent_under_its_id() -> None:
    stored = EventColumns.from_events([event(1, 5), event(2, 9)])
    together = merge_events(stored, [event(2, 3, "purchase"), event(3, 1), event(3, 2)])
    assert together.event_id == tuple(f"{number:032x}" for number in (1, 2, 3))
    assert together.event_type == ("view_item",) * 3
    assert together.event_time == tuple(NOW - hours * HOUR for hours in (5, 9, 1))
    assert merge_events(stored, []) is stored
    assert list(merge_events(EventColumns(), [event(3, 1)]).event_time) == [NOW - HOUR]


def test_columns_give_the_features_of_their_events() -> None:
    feature_set, now = default_feature_set(PredictionTask()), from_micros(NOW)
    events = [event(n, (7 * n) % 50 + 1, ("purchase", "add_to_cart", "search")[n % 3]) for n in range(30)]
    of_events = compute_user_features([*events, events[3]], now, feature_set)
    of_columns = compute_user_values(
        EventColumns.from_events(sorted(events, key=lambda e: e.event_time)), now, feature_set
    )
    assert [None if value != value else value for value in of_columns] == list(of_events.values())
