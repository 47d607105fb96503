"""The pandas baseline of the benchmark computes the same numbers, so that its time may be compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_core.features.batch import compute
from retail_core.features.context import shop_on
from retail_core.features.cutoffs import daily_pairs
from retail_core.features.definitions import Question, default_feature_set
from retail_core.features.reader import LakeReader
from retail_core.features.shop_measures import local_day
from tests.benchmarks.pandas_features import pandas_features
from tests.benchmarks.simulated_lake import START, simulated_days
from tests.feature_logs import DAY, logs, micros, pairs_of, write_lake

NOW = micros("2025-03-30T00:00+00:00")


def assert_same(lake: LakeReader, pairs: pd.DataFrame, question: Question) -> None:
    feature_set = default_feature_set(question)
    days = {local_day(t, question) for t in pairs["as_of"].dt.to_pydatetime()}
    ours = compute(lake, pairs, feature_set)[list(feature_set.columns)]
    theirs = pandas_features(lake, pairs, feature_set, shop_on(lake, question, days))
    pd.testing.assert_frame_equal(theirs, ours, rtol=1e-9, atol=1e-9)


def test_pandas_equals_the_batch_on_a_simulated_log(tmp_path: Path) -> None:
    lake, events = simulated_days(tmp_path, 300, 40)
    last = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=40)
    question = Question(timezone="Europe/Berlin")
    pairs = daily_pairs(lake, question, [last - timedelta(hours=20 * n) for n in range(3)])
    assert events > 10_000
    assert len(pairs) > 300
    assert_same(lake, pairs, question)


@given(data=st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_pandas_equals_the_batch_on_hostile_logs(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Equal times, null items and prices, unknown event types, users without events."""
    question = Question(lookback_days=data.draw(st.sampled_from([28, 1, 5])))
    lake = write_lake(tmp_path_factory.mktemp("lake"), data.draw(logs(NOW, question.lookback_days)))
    assert_same(lake, pairs_of((user, NOW - n * DAY) for n in (0, 1) for user in "uvwxy"), question)
