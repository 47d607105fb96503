"""A model family that contradicts itself is refused when it is loaded; names select families."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.ensemble import RandomForestClassifier

from retail_core.errors import InputError
from retail_core.model.families import MODEL_FAMILIES, family_of, select_families
from retail_core.model.families.logistic import LogisticFamily
from retail_core.model.families.protocol import Params, check_family, grid_cells


class NegativeComplexity(LogisticFamily):
    def complexity(self, params: Params) -> float:
        return -1


class OtherRanker(LogisticFamily):
    def build(self, params: Params, seed: int) -> Any:
        return RandomForestClassifier()


def changed(**attributes: object) -> LogisticFamily:
    family = LogisticFamily()
    for name, value in attributes.items():
        setattr(family, name, value)
    return family


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (None, "must define FAMILY"),
        (changed(title=""), "does not declare title"),
        (changed(grid={}), "does not declare grid"),
        (changed(name="auto"), "cannot be the name of one"),
        (changed(grid={"C": (0.1, 1.0)}, ranker_type=RandomForestClassifier), "not the declared ranker_type"),
        (OtherRanker(), "build returns RandomForestClassifier"),
        (NegativeComplexity(), "complexity must be positive"),
    ],
)
def test_contradictory_family_is_refused_with_its_module(family: object, message: str) -> None:
    with pytest.raises(TypeError, match=message) as refused:
        check_family(family, "families.new")
    assert str(refused.value).startswith("families.new")


def test_every_family_passes_the_check() -> None:
    for family in MODEL_FAMILIES.values():
        assert check_family(family, family.name) is family


def test_families_are_selected_by_name_the_simplest_first() -> None:
    assert [family.name for family in select_families("auto")] == list(MODEL_FAMILIES)
    assert next(iter(MODEL_FAMILIES)) == "logistic"
    assert {"logistic", "lightgbm", "rf"} <= set(MODEL_FAMILIES)
    assert [family.name for family in select_families("rf")] == ["rf"]
    with pytest.raises(InputError, match="no model family 'xgboost'") as refused:
        select_families("xgboost")
    assert "auto, logistic" in refused.value.remedy


def test_ranker_of_no_family_is_refused() -> None:
    with pytest.raises(InputError, match="rankers of type object"):
        family_of(object())  # type: ignore[arg-type]


def test_grid_cells_are_all_combinations() -> None:
    assert grid_cells({"a": (1, 2), "b": (3,)}) == [{"a": 1, "b": 3}, {"a": 2, "b": 3}]
