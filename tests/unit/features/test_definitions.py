"""The list of features, and the page generated from it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from retail_core.features.definitions import FEATURE_DEFINITIONS, expand_definitions
from retail_core.features.docs import renewed
from retail_core.features.feature_set import default_feature_set
from retail_core.features.kinds import Count, FeatureDefinition, event_value
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding

ATTRIBUTES = (AttributeEncoding("age", "number"), AttributeEncoding("tier", "category", ("gold", "new")))


def test_the_page_of_features_is_current() -> None:
    path = Path(__file__).resolve().parents[3] / "docs" / "features.md"
    document = path.read_text()
    assert document == renewed(document), "run: python -m retail_core.features.docs docs/features.md"


@pytest.mark.parametrize(
    ("days", "labels"),
    [(28, "1h 6h 1d 3d 7d 28d"), (90, "1h 6h 1d 3d 7d 28d 90d"), (1, "1h 6h 1d"), (2, "1h 6h 1d 2d")],
)
def test_windows_end_with_the_lookback(days: int, labels: str) -> None:
    task = PredictionTask(lookback_days=days)
    assert [window.label for window in task.windows] == labels.split()
    names = default_feature_set(task).names
    assert len(names) == len(set(names))
    assert f"spend_{days}d" in names
    assert f"active_days_{days}d" in names
    assert ("active_days_1d" in names) == (days == 1)


def test_a_definition_is_a_feature_per_window() -> None:
    task = PredictionTask()
    definition = FeatureDefinition("app_open_count", Count("app_open"), "days", "events", "App opened.")
    features = definition.expand(task.windows)
    assert [feature.name for feature in features] == [f"app_open_count_{w}" for w in ("3d", "7d", "28d")]
    names = [feature.name for entry in FEATURE_DEFINITIONS for feature in entry.expand(task.windows)]
    assert names == list(expand_definitions(task))
    assert names == list(default_feature_set(task).names)


def test_attributes_are_encoded_as_numbers() -> None:
    age, tier = ATTRIBUTES
    assert tier.columns == ("attr_tier=gold", "attr_tier=new")
    assert list(tier.encode({"tier": "new"})) == [0.0, 1.0]
    assert list(tier.encode({})) == [0.0, 0.0]
    assert list(age.encode({"age": "41"})) == [41.0]
    for unusable in (None, "many", float("inf"), [1], 10**400):
        assert math.isnan(next(age.encode({"age": unusable})))


def test_the_value_of_an_event_is_limited() -> None:
    assert event_value(250, 3) == 750
    assert event_value(250, None) == 250
    assert event_value(250, 0) == 0
    assert event_value(None, 3) is None
    assert event_value(10**13, 10**7) == 10**13
    assert event_value(0, 10**7) == 0
