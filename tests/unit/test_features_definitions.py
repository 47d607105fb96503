"""The list of features, sets of them, and the document made from it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from retail_core.errors import InputError
from retail_core.features.definitions import FEATURE_DEFINITIONS, expand_definitions
from retail_core.features.docs import renewed
from retail_core.features.feature_set import FeatureSet, default_feature_set, feature_specification
from retail_core.features.kinds import Count, FeatureDefinition, event_value
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding

ATTRIBUTES = (AttributeEncoding("age", "number"), AttributeEncoding("tier", "category", ("gold", "new")))


def test_document_is_current() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "features.md"
    document = path.read_text()
    assert document == renewed(document), "run: python -m retail_core.features.docs docs/features.md"


@pytest.mark.parametrize(
    ("days", "labels"),
    [(28, "1h 6h 1d 3d 7d 28d"), (90, "1h 6h 1d 3d 7d 28d 90d"), (1, "1h 6h 1d"), (2, "1h 6h 1d 2d")],
)
def test_windows_end_with_the_lookback(days: int, labels: str) -> None:
    question = PredictionTask(lookback_days=days)
    assert [window.label for window in question.windows] == labels.split()
    names = default_feature_set(question).names
    assert len(names) == len(set(names))
    assert f"spend_{days}d" in names
    assert f"active_days_{days}d" in names
    assert ("active_days_1d" in names) == (days == 1)


def test_an_entry_is_a_feature_per_window() -> None:
    entry = FeatureDefinition("app_open_count", Count("app_open"), "days", "events", "App opened.")
    features = entry.expand(PredictionTask().windows)
    assert [feature.name for feature in features] == [f"app_open_count_{w}" for w in ("3d", "7d", "28d")]
    names = [
        name
        for entry in FEATURE_DEFINITIONS
        for name in (f.name for f in entry.expand(PredictionTask().windows))
    ]
    assert (
        tuple(names)
        == tuple(expand_definitions(PredictionTask()))
        == default_feature_set(PredictionTask()).names
    )


def test_hash_covers_question_columns_and_definitions() -> None:
    base = default_feature_set(PredictionTask(), ATTRIBUTES)
    assert base.hash == default_feature_set(PredictionTask(), ATTRIBUTES).hash
    others = [
        default_feature_set(PredictionTask(timezone="Asia/Shanghai"), ATTRIBUTES),
        default_feature_set(PredictionTask(horizon_hours=12), ATTRIBUTES),
        default_feature_set(PredictionTask(), ATTRIBUTES[:1]),
        base.select(base.columns[1:]),
    ]
    assert len({base.hash, *(other.hash for other in others)}) == 5
    intent = feature_specification(
        PredictionTask(), expand_definitions(PredictionTask())["carted_not_bought"]
    )
    assert intent == (
        "carted_not_bought = where((hours_since_add_to_cart < coalesce(hours_since_purchase, inf)), 1.0, 0.0)"
    )


def test_a_set_survives_json_and_selection() -> None:
    base = default_feature_set(PredictionTask(lookback_days=90), ATTRIBUTES)
    assert FeatureSet.from_dict(json.loads(json.dumps(base.to_dict()))) == base
    some = base.select(["attr_tier=new", "hour", "spend_90d", "attr_age"])
    assert some.columns == ("spend_90d", "hour", "attr_age", "attr_tier=new")
    with pytest.raises(InputError, match="nonsense"):
        base.select(["nonsense"])


def test_a_set_of_another_version_is_refused_and_hashes_differently() -> None:
    foreign = FeatureSet(PredictionTask(), ("spend_28d", "gone"))
    assert foreign.hash != FeatureSet(PredictionTask(), ("spend_28d",)).hash
    with pytest.raises(InputError, match="gone"):
        foreign.plan()


def test_formulas_come_after_what_they_use() -> None:
    plan = [feature.name for feature in FeatureSet(PredictionTask(), ("average_order_value",)).plan()]
    assert plan == ["spend_28d", "orders_28d", "average_order_value"]


def test_attributes_become_numbers() -> None:
    age, tier = ATTRIBUTES
    assert tier.columns == ("attr_tier=gold", "attr_tier=new")
    assert list(tier.encode({"tier": "new"})) == [0.0, 1.0]
    assert list(tier.encode({})) == [0.0, 0.0]
    assert list(age.encode({"age": "41"})) == [41.0]
    for unusable in (None, "many", float("inf"), [1], 10**400):
        assert math.isnan(next(age.encode({"age": unusable})))


def test_value_is_limited() -> None:
    assert event_value(250, 3) == 750
    assert event_value(250, None) == 250
    assert event_value(250, 0) == 0
    assert event_value(None, 3) is None
    assert event_value(10**13, 10**7) == 10**13
    assert event_value(0, 10**7) == 0
