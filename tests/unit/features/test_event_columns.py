"""One user's events as columns; of events with the same id the first counts."""

from __future__ import annotations

from datetime import UTC, datetime

from bentos.predictor import merge_events
from retail_core.features.event_columns import EventColumns, OnlineEvent, event_from_document
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features, compute_user_values
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.feature_logs import HOUR, MINUTE, micros

AS_OF = micros("2025-01-31T00:00:00+00:00")


def event(number: int, hours: int, event_type: str = "view_item") -> OnlineEvent:
    return OnlineEvent(
        f"{number:032x}", "u", AS_OF - hours * HOUR, event_type, f"i{number % 2}", "c", None, 100
    )


def test_events_as_columns_keep_their_order() -> None:
    columns = EventColumns.from_events([event(1, 5), event(2, 9, "purchase")])
    assert columns.event_type == ("view_item", "purchase")
    assert columns.event_time == (AS_OF - 5 * HOUR, AS_OF - 9 * HOUR)
    assert EventColumns.from_events([]) == EventColumns()


def test_a_stored_event_takes_precedence_over_a_sent_one_with_its_id() -> None:
    stored = EventColumns.from_events([event(1, 5), event(2, 9)])
    merged = merge_events(stored, [event(2, 3, "purchase"), event(3, 1), event(3, 2)])
    assert merged.event_id == tuple(f"{number:032x}" for number in (1, 2, 3))
    assert merged.event_type == ("view_item",) * 3
    assert merged.event_time == tuple(AS_OF - hours * HOUR for hours in (5, 9, 1))
    assert merge_events(stored, []) is stored
    assert list(merge_events(EventColumns(), [event(3, 1)]).event_time) == [AS_OF - HOUR]


def test_columns_give_the_features_of_their_events() -> None:
    feature_set, cutoff = default_feature_set(PredictionTask()), from_micros(AS_OF)
    events = [event(n, (7 * n) % 50 + 1, ("purchase", "add_to_cart", "search")[n % 3]) for n in range(30)]
    of_events = compute_user_features([*events, events[3]], cutoff, feature_set)
    of_columns = compute_user_values(
        EventColumns.from_events(sorted(events, key=lambda e: e.event_time)), cutoff, feature_set
    )
    assert [None if value != value else value for value in of_columns] == list(of_events.values())


def test_event_from_a_mongodb_document() -> None:
    document = {
        "_id": "7", "user_id": "u", "event_time": datetime(2025, 1, 30, 23, 59),  # noqa: DTZ001 - as pymongo returns it
        "event_type": "purchase", "price_minor": 250, "window_id": 3,
    }  # fmt: skip
    expected = OnlineEvent("7", "u", AS_OF - MINUTE, "purchase", price_minor=250)
    assert event_from_document(document) == expected
    aware = {**document, "event_time": document["event_time"].replace(tzinfo=UTC)}  # type: ignore[attr-defined]
    assert event_from_document(aware) == expected
