"""The pandas baseline of the benchmark gives the same numbers, so that the times can be compared."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from retail_core.features import definitions
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.definitions import expand_definitions
from retail_core.features.engine import LakeReader
from retail_core.features.event_columns import EVENT_KEYS, EventKey, OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.kinds import Cart, Distinct, FeatureDefinition
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_TYPES
from tests.benchmarks import pandas_features as baseline_module
from tests.benchmarks.pandas_features import covered_features, pandas_features
from tests.benchmarks.simulated_lake import START, simulated_days
from tests.feature_logs import DAY, HOUR, MINUTE, micros, pairs_of, write_lake

AS_OF = micros("2025-03-30T00:00+00:00")


def assert_same(lake: LakeReader, pairs: pd.DataFrame, task: PredictionTask) -> None:
    feature_set = covered_features(default_feature_set(task))
    days = {local_day(t, task) for t in pairs["as_of"].dt.to_pydatetime()}
    batch = compute_features(lake, pairs, feature_set)[list(feature_set.columns)]
    baseline = pandas_features(lake, pairs, feature_set, context_by_day(lake, task, days))
    pd.testing.assert_frame_equal(baseline, batch, rtol=1e-9, atol=1e-9)


def test_features_without_a_pandas_form_and_formulas_over_them_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = default_feature_set(PredictionTask())
    assert covered_features(everything) == everything
    monkeypatch.delitem(baseline_module._PANDAS_FORMS, Cart)
    left_out = set(everything.names) - set(covered_features(everything).names)
    cart = {"cart_count", "open_cart_value", "cart_oldest_hours", "cart_newest_hours"}
    assert left_out == cart | {"cart_value_level"}


def test_a_new_key_is_computed_without_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EVENT_KEYS, "brand", EventKey("brand"))
    added = FeatureDefinition("distinct_brands", Distinct("brand"), "all", "brands", "Distinct brands.")
    monkeypatch.setattr(definitions, "FEATURE_DEFINITIONS", (added,))
    expand_definitions.cache_clear()
    try:
        events = [
            OnlineEvent(f"e{n}", "u", AS_OF - n * HOUR, "view_item", brand="ab"[n % 2]) for n in range(9)
        ]
        assert_same(write_lake(tmp_path, events), pairs_of([("u", AS_OF)]), PredictionTask())
    finally:
        expand_definitions.cache_clear()


def test_pandas_equals_the_batch_on_a_simulated_log(tmp_path: Path) -> None:
    lake, events = simulated_days(tmp_path, 300, 40)
    last = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=40)
    task = PredictionTask(timezone="Europe/Berlin")
    pairs = daily_pairs(lake, task, [last - timedelta(hours=20 * n) for n in range(3)])
    assert events > 10_000
    assert len(pairs) > 300
    assert_same(lake, pairs, task)


def test_pandas_equals_the_batch_on_a_hostile_log(tmp_path: Path) -> None:
    """Equal times, pauses of exactly 30 minutes, null items and prices, odd types, users without events."""
    rng = random.Random(5)
    types = [*EVENT_TYPES, "add_to_cart", "add_to_cart", "remove_from_cart", "purchase", "odd"]
    events = [
        OnlineEvent(
            f"{rng.getrandbits(64):032x}", f"u{rng.randrange(40)}",
            AS_OF + DAY
            - int(rng.random() ** 3 * 31 * DAY) // (step := rng.choice([30 * MINUTE, DAY])) * step,
            rng.choice(types),
            rng.choice([None, "a", "b", "c"]), rng.choice([None, "x", "y"]), None,
            rng.choice([None, 0, 199, 10**13]), rng.choice([None, 0, 3, 10**7]),
            rng.choice([None, "o1", "o2"]),
        )
        for _ in range(4_000)
    ]  # fmt: skip
    pairs = pairs_of((f"u{n}", AS_OF - back) for n in range(42) for back in (0, HOUR, DAY))
    assert_same(write_lake(tmp_path, events), pairs, PredictionTask())
