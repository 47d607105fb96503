"""Labels: the horizon, and labels that are not known yet."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from retail_core.errors import DataError
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import first_visit_pairs
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros, to_micros
from tests.feature_logs import DAY, HOUR, pairs_of, write_lake

FIRST = datetime(2025, 3, 3, tzinfo=ZoneInfo("Europe/Berlin"))


def test_first_visit_pairs_and_their_labels(tmp_path: Path) -> None:
    start = to_micros(FIRST)
    events = [
        OnlineEvent("1", "a", start + HOUR, "purchase"),
        OnlineEvent("2", "a", start, "view_item"),
        OnlineEvent("3", "b", start + 2 * HOUR, "view_item"),
        OnlineEvent("4", "c", start + 3 * HOUR, "view_item"),
        OnlineEvent("5", "b", start + 26 * HOUR + 1_000_000, "purchase"),
    ]
    lake = write_lake(tmp_path, events)
    pairs = first_visit_pairs(lake, from_micros(start + 3 * HOUR))
    assert list(pairs["user_id"]) == ["a", "b"]
    assert [to_micros(t.to_pydatetime()) for t in pairs["as_of"]] == [
        start + 1_000_000,
        start + 2 * HOUR + 1_000_000,
    ]
    # A purchase exactly at the end of the horizon is outside it.
    assert label_pairs(lake, PredictionTask(), pairs).tolist() == [True, False]


def test_a_label_younger_than_its_horizon_is_refused(tmp_path: Path) -> None:
    lake = write_lake(tmp_path, [OnlineEvent("1", "u0", to_micros(FIRST), "view_item")])
    pairs = pairs_of([("u0", to_micros(FIRST) + DAY)])
    assert not label_pairs(lake, PredictionTask(), pairs, known_until=FIRST + timedelta(days=2)).any()
    with pytest.raises(DataError, match="not known before"):
        label_pairs(lake, PredictionTask(), pairs, known_until=FIRST + timedelta(days=2, milliseconds=-1))
    assert label_pairs(lake, PredictionTask(), pairs_of([])).empty
