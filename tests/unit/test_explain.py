"""Shapley values add up to the answer; a forest's are those of Shapley's own definition."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import Float32Array
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.boosting import BoostedTrees
from retail_core.model.calibration import logit
from retail_core.model.estimator import CalibratedRanker, build_forest
from retail_core.model.explanations.contributions import (
    global_importance,
    max_explainable_rows,
    shapley_values,
)
from retail_core.model.explanations.forest_text import as_booster
from retail_core.model.families import FAMILIES, RankerConfig
from retail_core.model.feature_matrix import MISSING
from retail_core.model.onnx_scorers import rows_at_thresholds

FEATURES = default_feature_set(PredictionTask()).select(
    ["cart_count", "cart_oldest_hours", "hours_since_view_item", "spend_7d", "weekend"]
)
SMALL = {
    "logistic": {"C": 0.1},
    "lightgbm": {"n_estimators": 30, "max_depth": 3, "min_samples_leaf": 20},
    "rf": {"n_estimators": 15, "max_depth": 5, "min_samples_leaf": 5},
}


CART, OLDEST, VIEWED, SPEND, WEEKEND = (
    FEATURES.columns.index(name)
    for name in ("cart_count", "cart_oldest_hours", "hours_since_view_item", "spend_7d", "weekend")
)


def rows_of(size: int, seed: int) -> tuple[Float32Array, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 2.0, (size, 5)).astype(np.float32)
    matrix[:, CART] = rng.integers(0, 4, size)
    matrix[matrix[:, CART] == 0, OLDEST] = MISSING
    matrix[:, WEEKEND] = rng.integers(0, 2, size)
    odds = -3 + 1.2 * matrix[:, CART] - 0.4 * matrix[:, VIEWED]
    return matrix, rng.random(size) < 1 / (1 + np.exp(-odds))


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> CalibratedRanker:
    matrix, labels = rows_of(4_000, 1)
    return CalibratedRanker(
        {"daily": RankerConfig(request.param, SMALL[request.param]).build(1).fit(matrix, labels)}
    )


def raw_scores(model: CalibratedRanker, matrix: Float32Array) -> np.ndarray:
    """In the ranker's own coin: log odds, for a forest the probability."""
    if isinstance(model.ranker(), BoostedTrees):
        return np.asarray(model.ranker().booster.predict(matrix, raw_score=True))
    score = model.raw_score(matrix)
    return score if isinstance(model.ranker(), RandomForestClassifier) else logit(score)


def test_contributions_add_up_to_the_answer(model: CalibratedRanker) -> None:
    matrix = rows_of(50, 2)[0]
    values = shapley_values(model, matrix)
    assert values.shape == (50, 5)
    distance = raw_scores(model, matrix) - values.sum(axis=1)
    assert np.ptp(distance) < 1e-9, "one constant, the average, is left"


def expected_score(tree: Any, row: np.ndarray, known: set[int], node: int = 0) -> float:
    """What a tree is expected to say where only some features are known: rows go both ways elsewhere."""
    left, right = tree.children_left[node], tree.children_right[node]
    if left < 0:
        return float(tree.value[node, 0, 1])
    feature = tree.feature[node]
    if feature in known:
        return expected_score(tree, row, known, left if row[feature] <= tree.threshold[node] else right)
    rows = tree.weighted_n_node_samples
    sides = [rows[side] / rows[node] * expected_score(tree, row, known, side) for side in (left, right)]
    return sum(sides)


def brute_force(trees: list[Any], row: np.ndarray, feature: int) -> float:
    """Shapley's own definition, over every subset of the other features (5 in all)."""
    others = [one for one in range(5) if one != feature]
    total = 0.0
    for size in range(5):
        weight = factorial(size) * factorial(4 - size) / factorial(5)
        for known in combinations(others, size):
            for tree in trees:
                gain = expected_score(tree, row, {*known, feature}) - expected_score(tree, row, {*known})
                total += weight * gain / len(trees)
    return total


def test_a_forest_is_explained_by_shapleys_own_definition() -> None:
    matrix, labels = rows_of(600, 4)
    forest = build_forest(trees=3, depth=4, leaf=5, seed=2).fit(matrix, labels)
    rows = rows_of(4, 5)[0]
    trees = [one.tree_ for one in forest.estimators_]
    truth = [[brute_force(trees, row, feature) for feature in range(5)] for row in rows]
    assert shapley_values(CalibratedRanker({"daily": forest}), rows) == pytest.approx(
        np.array(truth), abs=1e-12
    )


@pytest.mark.parametrize("depth", [1, 12])
def test_a_forest_says_the_same_in_lightgbms_text_on_and_beside_its_splits(depth: int) -> None:
    matrix, labels = rows_of(3_000, 6)
    forest = build_forest(trees=20, depth=depth, leaf=1, seed=3).fit(matrix, labels)
    rows = np.vstack([matrix, rows_at_thresholds(forest, np.random.default_rng(0))])
    answers = as_booster(forest).predict(rows, raw_score=True)
    assert CalibratedRanker({"daily": forest}).raw_score(rows) == pytest.approx(answers, abs=1e-12)


def test_trees_without_a_split_say_the_average() -> None:
    matrix, labels = rows_of(50, 7)
    forest = build_forest(trees=3, depth=2, leaf=50, seed=3).fit(matrix, labels)
    model = CalibratedRanker({"daily": forest})
    assert as_booster(forest).predict(matrix) == pytest.approx(model.raw_score(matrix), abs=1e-12)
    assert not shapley_values(model, matrix).any()


def test_the_work_of_explaining_is_bounded(model: CalibratedRanker) -> None:
    assert max_explainable_rows(model, 0) == 1
    assert max_explainable_rows(model, 2e9) >= 2 * max_explainable_rows(model, 1e9) > 2_000


def test_what_decides_is_what_matters(model: CalibratedRanker) -> None:
    shares = global_importance(model, rows_of(300, 3)[0])
    assert shares.sum() == pytest.approx(1)
    assert VIEWED in np.argsort(-shares)[:3]
    assert shares[[CART, OLDEST]].sum() > shares[[SPEND, WEEKEND]].sum()
