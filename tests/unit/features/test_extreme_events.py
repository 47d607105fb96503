"""Bad input has one defined outcome each, as docs/sources.md lists them."""

from __future__ import annotations

import math
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retail_core import sources
from retail_core.errors import IntegrityError
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import last_covered_day
from retail_core.model.feature_matrix import to_matrix
from retail_core.schemas import EVENT_ARROW
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.lake_file import LakeFile
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.table_specs import EVENTS
from retail_core.times import from_micros
from tests.feature_logs import DAY, HOUR, MINUTE, FolderLake, micros, pairs_of, write_lake

AS_OF = micros("2025-01-31T00:00:00+00:00")
ROW = {"user_id": "u", "event_time": "2025-01-30T12:00:00Z", "event_type": "purchase"}


def both(
    folder: Path, events: list[OnlineEvent], names: tuple[str, ...], as_of: int = AS_OF
) -> dict[str, float]:
    """The online values, after checking that the batch gives the same."""
    feature_set = FeatureSet(PredictionTask(), names)
    user = events[0].user_id
    online = compute_user_features(events, from_micros(as_of), feature_set)
    batch = compute_features(write_lake(folder, events), pairs_of([(user, as_of)]), feature_set)
    assert batch.loc[0, list(names)].tolist() == list(online.values())
    return {name: math.nan if value is None else value for name, value in online.items()}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"price": "-1.00"}, "price_negative"),
        ({"user_id": "u" * 10_240}, "length"),
        ({"event_time": "2101-01-01T00:00:00Z"}, "time_range"),
        ({"quantity": "-2"}, "quantity_negative"),
    ],
)
def test_what_no_feature_may_see_is_quarantined_with_its_rule(changed: dict[str, str], rule: str) -> None:
    events, refused = sources.parse_events([ROW | changed, ROW], sources.get_preset("canonical"))
    assert len(events) == 1
    assert [refusal.rule for refusal in refused] == [rule]


def test_a_clock_that_is_ahead_counts_when_its_time_has_come(tmp_path: Path) -> None:
    events = [
        OnlineEvent("1", "u", AS_OF - HOUR, "view_item"),
        OnlineEvent("2", "u", AS_OF + 5 * MINUTE, "purchase"),
    ]
    names = ("event_count_1d", "purchase_count_1d", "hours_since_event")
    assert both(tmp_path, events, names) == {
        "event_count_1d": 1, "purchase_count_1d": 0, "hours_since_event": 1
    }  # fmt: skip
    assert both(tmp_path, events, names, AS_OF + 6 * MINUTE)["purchase_count_1d"] == 1


def test_an_event_of_the_far_future_moves_neither_the_newest_event_nor_the_labels(tmp_path: Path) -> None:
    days = {date(2025, 1, 1) + timedelta(days=n): 500 for n in range(20)} | {date(2025, 1, 21): 1}
    assert last_covered_day(days) == date(2025, 1, 21)
    assert last_covered_day(days | {date(2099, 5, 1): 1}) == date(2025, 1, 21)
    assert last_covered_day({date(2099, 5, 1): 1}) == date(2099, 5, 1)
    assert last_covered_day({}) is None
    days |= {date(2099, 5, 1): 1}
    noons = {day: micros(f"{day}T12:00:00+00:00") for day in days}
    files = [LakeFile(f"{day}", n, 1, (str(day),), noons[day], noons[day]) for day, n in days.items()]
    LakeTable.create(LakeLocation(str(tmp_path / "lake")), EVENTS).commit(files)
    state = Lake(str(tmp_path / "lake")).state()
    assert state.newest_event == from_micros(noons[date(2025, 1, 21)])
    assert state.last_event == from_micros(noons[date(2099, 5, 1)])
    events = [OnlineEvent(f"{i}", "u", AS_OF - i * HOUR, "view_item") for i in range(1, 24 * 20)]
    stray = OnlineEvent("s", "u", AS_OF + 200 * DAY, "view_item")
    task, until = PredictionTask(), from_micros(AS_OF)
    plan = labelled_cutoffs(write_lake(tmp_path, events), task, until)
    assert labelled_cutoffs(write_lake(tmp_path, [*events, stray]), task, until) == plan
    assert plan.cutoffs


def test_refunds_beyond_the_purchases_make_the_net_negative(tmp_path: Path) -> None:
    events = [
        OnlineEvent("1", "u", AS_OF - 2 * HOUR, "purchase", "a", price_minor=1_000),
        OnlineEvent("2", "u", AS_OF - HOUR, "refund", "a", price_minor=2_500, quantity=2),
    ]
    names = ("spend_28d", "refunds_28d", "net_spend", "average_order_value")
    row = both(tmp_path, events, names)
    assert row == {
        "spend_28d": 1_000,
        "refunds_28d": 5_000,
        "net_spend": -4_000,
        "average_order_value": 1_000,
    }
    assert to_matrix(np.array([list(row.values())]))[0].tolist() == [1_000, 5_000, -4_000, 1_000]


def test_an_id_of_ten_kilobytes_is_an_id_like_any_other(tmp_path: Path) -> None:
    """Ingestion refuses it; a lake that holds it all the same gives its features."""
    event = OnlineEvent("1", "ü" * 10_240, AS_OF - HOUR, "purchase", "a" * 10_240, "c" * 10_240)
    assert both(tmp_path, [event], ("distinct_items_1d", "orders_1d")) == {
        "distinct_items_1d": 1, "orders_1d": 1
    }  # fmt: skip


def test_one_user_with_a_million_events(tmp_path: Path) -> None:
    """All at the highest price; sums leave 64 bits and stay right, and the neighbour is not disturbed."""
    count = 1_000_000
    back = np.random.default_rng(1).integers(1, 28 * DAY // 1000, count) * 1000
    kinds = np.array(["view_item", "add_to_cart", "purchase"])[np.arange(count) % 3]
    item = np.arange(count) % 997
    columns = {
        "event_id": pa.array([f"{i:032x}" for i in range(count)]),
        "user_id": pa.array(["bot"] * (count - 1) + ["u"]),
        "event_time": pa.array(AS_OF - back).cast(pa.timestamp("us", tz="UTC")),
        "event_type": pa.array(kinds),
        "item_id": pa.array(item.astype(str)),
        "category": pa.array((item % 7).astype(str)),
        "price_minor": pa.array(np.full(count, 10**13)),
    }
    empty = {field.name: pa.nulls(count, field.type) for field in EVENT_ARROW}
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({**empty, **columns}, schema=EVENT_ARROW), path)
    names = (
        "event_count_28d", "spend_28d", "mean_price_bought", "distinct_items_28d", "category_concentration",
        "last_session_events", "cart_count", "mean_purchase_gap_days",
    )  # fmt: skip
    rows = compute_features(
        FolderLake(path), pairs_of([("bot", AS_OF), ("u", AS_OF)]), FeatureSet(PredictionTask(), names)
    )
    bot = rows.iloc[0]
    assert bot["event_count_28d"] == count - 1
    assert bot["spend_28d"] == float((kinds[:-1] == "purchase").sum() * 10**13)
    assert (bot["mean_price_bought"], bot["mean_purchase_gap_days"]) == (1e13, 1)
    assert bot["distinct_items_28d"] == 997
    shares = pd.Series(item[:-1] % 7).value_counts(normalize=True)
    assert bot["category_concentration"] == pytest.approx((shares**2).sum())
    assert rows.iloc[1]["event_count_28d"] == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    lake = write_lake(tmp_path, [OnlineEvent("1", "u", AS_OF - HOUR, "view_item")])
    lake.events.write_bytes(b"PAR1 torn")
    with pytest.raises(IntegrityError, match=lake.events.name) as caught:
        compute_features(lake, pairs_of([("u", AS_OF)]), FeatureSet(PredictionTask(), ("event_count_1d",)))
    assert "retail lake rebuild" in caught.value.remedy
