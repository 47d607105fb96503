"""Feature sets: hash, JSON form, selection, order of computation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retail_core.errors import InputError
from retail_core.features.definitions import expand_definitions
from retail_core.features.feature_set import FeatureSet, default_feature_set, feature_specification
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ATTRIBUTES = (AttributeEncoding("age", "number"), AttributeEncoding("tier", "category", ("gold", "new")))


def test_the_hash_covers_task_columns_and_definitions() -> None:
    base = default_feature_set(PredictionTask(), ATTRIBUTES)
    assert base.hash == default_feature_set(PredictionTask(), ATTRIBUTES).hash
    variants = [
        default_feature_set(PredictionTask(timezone="Asia/Shanghai"), ATTRIBUTES),
        default_feature_set(PredictionTask(horizon_hours=12), ATTRIBUTES),
        default_feature_set(PredictionTask(), ATTRIBUTES[:1]),
        base.select(base.columns[1:]),
    ]
    assert len({base.hash, *(variant.hash for variant in variants)}) == 5
    task = PredictionTask()
    specification = feature_specification(task, expand_definitions(task)["carted_not_bought"])
    assert specification == (
        "carted_not_bought = where((hours_since_add_to_cart < coalesce(hours_since_purchase, inf)), 1.0, 0.0)"
    )


@pytest.mark.parametrize(
    ("task", "stored_hash"),
    [
        (PredictionTask(), "da9fe7af8ee2d34ee0a13b825bb9f204"),
        (PredictionTask(48, 3, 5, "Europe/Berlin"), "23d9665d92b1ab1284b35a40428ef0b5"),
    ],
)
def test_the_feature_set_of_release_0_1_0_has_the_hash_that_its_models_store(
    task: PredictionTask, stored_hash: str
) -> None:
    names = json.loads((FIXTURES / "feature_names_0_1_0.json").read_text())[str(task.lookback_days)]
    assert FeatureSet(task, tuple(names), ATTRIBUTES).hash == stored_hash


def test_a_set_is_restored_from_json_and_narrowed_by_selection() -> None:
    base = default_feature_set(PredictionTask(lookback_days=90), ATTRIBUTES)
    assert FeatureSet.from_dict(json.loads(json.dumps(base.to_dict()))) == base
    selected = base.select(["attr_tier=new", "hour", "spend_90d", "attr_age"])
    assert selected.columns == ("spend_90d", "hour", "attr_age", "attr_tier=new")
    with pytest.raises(InputError, match="nonsense"):
        base.select(["nonsense"])


def test_a_set_of_another_version_is_refused_and_has_another_hash() -> None:
    of_other_version = FeatureSet(PredictionTask(), ("spend_28d", "gone"))
    assert of_other_version.hash != FeatureSet(PredictionTask(), ("spend_28d",)).hash
    with pytest.raises(InputError, match="gone"):
        of_other_version.plan()


def test_formulas_come_after_what_they_use() -> None:
    plan = [feature.name for feature in FeatureSet(PredictionTask(), ("average_order_value",)).plan()]
    assert plan == ["spend_28d", "orders_28d", "average_order_value"]
