"""Values of features on logs small enough to check by hand; both interpreters."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.feature_logs import HOUR, micros, pairs_of, write_lake

AS_OF = micros("2025-01-31T00:00:00+00:00")


def event(name: str, hours: float, kind: str, **columns: object) -> OnlineEvent:
    return OnlineEvent(name, "u", AS_OF - round(hours * HOUR), kind, **columns)  # type: ignore[arg-type]


LOG = [
    event("01", 28 * 24, "view_item", item_id="a", category="x"),
    event("02", 50, "view_item", item_id="a", category="x"),
    event("03", 50 - 0.5, "add_to_cart", item_id="a", price_minor=500, quantity=2),
    event("04", 49, "purchase", item_id="a", price_minor=500, quantity=2, order_id="o1"),
    event("05", 49, "purchase", item_id="b", price_minor=300, order_id="o1"),
    event("06", 5, "add_to_cart", item_id="c", price_minor=700),
    event("07", 4.9, "add_to_cart", item_id="d", price_minor=100, quantity=3),
    event("08", 4.8, "remove_from_cart", item_id="c"),
    event("09", 4.7, "add_to_cart", item_id="d", price_minor=100, quantity=4),
    event("10", 3, "refund", item_id="b", price_minor=300),
    event("11", 0.75, "purchase"),
    event("12", 0.5, "add_to_cart", item_id="e"),
    event("13", 0, "purchase", item_id="e", price_minor=1),
    event("14", 28 * 24 + 0.001, "purchase", item_id="z", price_minor=1),
]


EXPECTED = {
    "event_count_28d": 12, "event_count_1h": 2, "event_count_6h": 7, "event_count_1d": 7,
    "event_count_3d": 11, "add_to_cart_count_6h": 4, "purchase_count_28d": 3, "spend_28d": 1300,
    "refunds_1d": 300,
    "net_spend": 1000, "orders_28d": 2, "average_order_value": 650, "distinct_items_28d": 5,
    "distinct_items_3d": 5,
    "distinct_items_1d": 4,
    "distinct_categories_28d": 1, "distinct_categories_1d": 0,
    # Blocks 0, 2 and 27: the event exactly 28 days before the cut-off is the first of the oldest block.
    "active_days_28d": 3, "active_days_7d": 2, "mean_gap_days": 13.5, "last_gap_days": 2,
    # 28 d; 50 h; 49.5 h (a pause of exactly 30 minutes); 49 h; 5 h; 3 h; 0.75 h.
    "sessions_28d": 7, "sessions_6h": 3, "sessions_1h": 1,
    "hours_since_event": 0.5, "hours_since_purchase": 0.75, "hours_since_search": None,
    "hours_since_first_event": 672, "events_per_session": 12 / 7,
    "cart_count": 1, "open_cart_value": 0, "cart_newest_hours": 0.5, "cart_oldest_hours": 0.5,
    "carted_not_bought": 1, "hour": 0, "weekday": 4, "weekend": 0,
    # Bought in blocks 0 and 2; block 27 lies whole weeks before the coming 24 hours.
    "purchase_days_28d": 2, "mean_purchase_gap_days": 2, "last_purchase_gap_days": 2,
    "purchase_gap_spread": 1,
    "purchase_due": 0.75 / 48, "visit_due": 0.5 / (24 * 13.5), "purchase_day_share": 2 / 3,
    "same_weekday_active_days_28d": 1, "same_weekday_active_days_7d": 0, "same_weekday_purchase_days_28d": 0,
    "weekday_active_share": 1 / 3, "weekday_purchase_share": 0,
    "velocity_1d": 7 * 27 / 5, "velocity_3d": 11 * 25 / 3, "cart_velocity_3d": None,
    "mean_price_viewed": None, "mean_price_carted": 350, "mean_price_bought": 400,
    "viewed_price_level": None, "carted_price_level": 0.875, "cart_value_level": 0,
    "category_concentration": 1,
    "last_session_events": 2, "last_session_carts": 1, "last_session_minutes": 15,
    "in_session": 0, "new_user": 0, "known_buyer": 1,
}  # fmt: skip


def compute_both(
    folder: Path, events: list[OnlineEvent], feature_set: FeatureSet, cutoff: int = AS_OF
) -> dict[str, float | None]:
    """The online row, after checking that the batch gives the same numbers."""
    row = compute_user_features(events, from_micros(cutoff), feature_set)
    batch = compute_features(write_lake(folder, events), pairs_of([("u", cutoff)]), feature_set, context={})
    expected = pd.Series(row, dtype="float64")
    pd.testing.assert_series_equal(
        batch.loc[0, list(row)].astype("float64"), expected, check_exact=True, check_names=False
    )
    return row


def test_values_computed_by_hand(tmp_path: Path) -> None:
    row = compute_both(tmp_path, LOG, default_feature_set(PredictionTask()))
    assert {name: row[name] for name in EXPECTED} == EXPECTED


def test_unequal_gaps_and_several_categories(tmp_path: Path) -> None:
    """Purchase days 1, 4 and 5 days back (gaps 1 and 3) in categories x, x and y; a week ago to the hour."""
    log = [
        event(name, hours, "purchase", category=category)
        for name, hours, category in (
            ("1", 30, "x"),
            ("2", 100, "x"),
            ("3", 125, "y"),
            ("4", 28 * 24 + 1, "z"),
        )
    ]
    names = (
        "mean_purchase_gap_days", "last_purchase_gap_days", "purchase_gap_spread", "category_concentration",
        "same_weekday_purchase_days_7d",
    )  # fmt: skip
    row = compute_both(tmp_path, log, FeatureSet(PredictionTask(), names))
    assert list(row.values()) == [2, 3, 10 * 2 / 16, 5 / 9, 0]
    week = compute_both(tmp_path, [event("1", 7 * 24, "purchase")], FeatureSet(PredictionTask(), names[-1:]))
    assert week == {"same_weekday_purchase_days_7d": 1}


def test_the_cart_before_its_items_are_purchased(tmp_path: Path) -> None:
    names = ("cart_count", "open_cart_value", "cart_oldest_hours", "carted_not_bought")
    row = compute_both(tmp_path, LOG, FeatureSet(PredictionTask(), names), AS_OF - 4 * HOUR)
    # The second addition of d takes the place of the first.
    assert row == {"cart_count": 1, "open_cart_value": 400, "cart_oldest_hours": 0.7, "carted_not_bought": 1}


def test_purchase_intent_weights_carts_most(tmp_path: Path) -> None:
    names = FeatureSet(PredictionTask(), ("purchase_intent",))
    intent: dict[str, float] = {}
    for kind in ("add_to_cart", "begin_checkout", "add_to_wishlist", "view_item", "remove_from_cart"):
        row = compute_user_features([event("1", 2, kind, item_id="a")], from_micros(AS_OF), names)
        intent[kind] = row["purchase_intent"] or 0
    assert sorted(intent, key=lambda kind: -intent[kind]) == list(intent)
    recent = compute_both(tmp_path, [event("1", 0.5, "add_to_cart", item_id="a")], names)["purchase_intent"]
    assert recent is not None
    assert recent > intent["add_to_cart"] > 0


def test_a_day_is_24_hours_also_when_clocks_change(tmp_path: Path) -> None:
    """Berlin, 31 March 2025: the local day before lasted 23 hours, the window 24."""
    cutoff = micros("2025-03-31T00:00+02:00")
    events = [event("1", 0, "view_item")._replace(event_time=cutoff - hours * HOUR) for hours in (23, 24)]
    events = [e._replace(event_id=str(i)) for i, e in enumerate(events)]
    names = ("event_count_1d", "active_days_3d", "hour", "weekday")
    row = compute_both(tmp_path, events, FeatureSet(PredictionTask(timezone="Europe/Berlin"), names), cutoff)
    assert row == {"event_count_1d": 2, "active_days_3d": 1, "hour": 0, "weekday": 0}


def test_without_events_pairs_or_features(tmp_path: Path) -> None:
    """A user without events, an empty log, no pairs, no features."""
    feature_set = default_feature_set(PredictionTask())
    row = compute_both(tmp_path, [], feature_set)
    assert row["event_count_28d"] == 0
    assert row["cart_count"] == 0
    assert row["hours_since_event"] is None
    assert row["mean_gap_days"] is None
    empty = compute_features(write_lake(tmp_path, LOG), pairs_of([]), feature_set)
    assert list(empty.columns) == ["user_id", "as_of", *feature_set.columns]
    assert set(empty.dtypes.astype(str)[2:]) == {"float64"}
    no_features = FeatureSet(PredictionTask(), ())
    assert len(compute_features(write_lake(tmp_path, LOG), pairs_of([("u", AS_OF)]), no_features)) == 1


def test_pairs_keep_their_order_index_and_columns(tmp_path: Path) -> None:
    pairs = pairs_of([("u", AS_OF), ("nobody", AS_OF), ("u", AS_OF - 4 * HOUR)]).assign(policy="daily")
    pairs.index = pd.Index([7, 3, 5])
    rows = compute_features(
        write_lake(tmp_path, LOG), pairs, FeatureSet(PredictionTask(), ("event_count_28d",))
    )
    pd.testing.assert_frame_equal(rows[list(pairs)], pairs)
    assert rows["event_count_28d"].tolist() == [12, 0, 10]
