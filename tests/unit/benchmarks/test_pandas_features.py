"""The pandas baseline of the benchmark computes the same numbers, so that its time may be compared."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import LakeReader
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_TYPES
from tests.benchmarks.pandas_features import pandas_features
from tests.benchmarks.simulated_lake import START, simulated_days
from tests.feature_logs import DAY, HOUR, MINUTE, micros, pairs_of, write_lake

NOW = micros("2025-03-30T00:00+00:00")


def assert_same(lake: LakeReader, pairs: pd.DataFrame, question: PredictionTask) -> None:
    feature_set = default_feature_set(question)
    days = {local_day(t, question) for t in pairs["as_of"].dt.to_pydatetime()}
    ours = compute_features(lake, pairs, feature_set)[list(feature_set.columns)]
    theirs = pandas_features(lake, pairs, feature_set, context_by_day(lake, question, days))
    pd.testing.assert_frame_equal(theirs, ours, rtol=1e-9, atol=1e-9)


def test_pandas_equals_the_batch_on_a_simulated_log(tmp_path: Path) -> None:
    lake, events = simulated_days(tmp_path, 300, 40)
    last = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=40)
    question = PredictionTask(timezone="Europe/Berlin")
    pairs = daily_pairs(lake, question, [last - timedelta(hours=20 * n) for n in range(3)])
    assert events > 10_000
    assert len(pairs) > 300
    assert_same(lake, pairs, question)


def test_pandas_equals_the_batch_on_a_hostile_log(tmp_path: Path) -> None:
    """Equal times, pauses of exactly 30 minutes, null items and prices, odd types, users without events."""
    rng = random.Random(5)
    types = [*EVENT_TYPES, "add_to_cart", "add_to_cart", "remove_from_cart", "purchase", "odd"]
    events = [
        OnlineEvent(
            f"{rng.getrandbits(64):032x}", f"u{rng.randrange(40)}",
            NOW + DAY - int(rng.random() ** 3 * 31 * DAY) // (unit := rng.choice([30 * MINUTE, DAY])) * unit,
            rng.choice(types),
            rng.choice([None, "a", "b", "c"]), rng.choice([None, "x", "y"]), None,
            rng.choice([None, 0, 199, 10**13]), rng.choice([None, 0, 3, 10**7]),
            rng.choice([None, "o1", "o2"]),
        )
        for _ in range(4_000)
    ]  # fmt: skip
    pairs = pairs_of((f"u{n}", NOW - back) for n in range(42) for back in (0, HOUR, DAY))
    assert_same(write_lake(tmp_path, events), pairs, PredictionTask())
