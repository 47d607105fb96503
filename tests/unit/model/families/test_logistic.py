"""The family `logistic`: its Shapley values are those of a linear model."""

from __future__ import annotations

import numpy as np
import pytest

from retail_core.model.families import MODEL_FAMILIES
from retail_core.model.feature_matrix import MISSING

FAMILY = MODEL_FAMILIES["logistic"]


def test_shapley_value_is_the_feature_s_term_and_its_missing_indicator() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.gamma(1.0, 2.0, (500, 2)).astype(np.float32)
    matrix[:250, 1] = MISSING
    ranker = FAMILY.build({"C": 1.0}, 1).fit(matrix, (matrix[:, 0] > 2) | (matrix[:, 1] == MISSING))
    columns = np.column_stack([np.log1p(matrix[:, 0]), matrix[:, 1] == MISSING])
    values = FAMILY.shapley_values(ranker, matrix)
    slope, indicator = (ranker.coef_ / ranker.scale_)[[0, 3]]
    assert values[:, 0] == pytest.approx(slope * (columns[:, 0] - ranker.centre_[0]), abs=1e-6)
    assert values[0, 1] - values[250, 1] > indicator / 2 > 0


def test_complexity_is_the_same_for_every_penalty() -> None:
    assert {FAMILY.complexity({"C": value}) for value in FAMILY.grid["C"]} == {1}
