"""The family `rf`: exact Shapley values, and exact translations to LightGBM's text and to ONNX."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retail_core.arrays import BoolArray, Float32Array
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.explanations.contributions import shapley_values
from retail_core.model.families.random_forest import CROSS_FIT_TREES, FAMILY, build_forest
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.forest_formats import forest_to_booster, rows_at_thresholds
from retail_core.model.onnx_scorers import export_scorers, load_scorer, load_scorers
from retail_core.model.sampling import correct_prior
from tests.examples import examples

FEATURES = 5


def labelled_matrix(rows: int, seed: int) -> tuple[Float32Array, BoolArray]:
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 2.0, (rows, FEATURES)).astype(np.float32)
    matrix[:, 0] = rng.integers(0, 4, rows)
    log_odds = -3 + 1.2 * matrix[:, 0] - 0.4 * matrix[:, 1]
    return matrix, rng.random(rows) < 1 / (1 + np.exp(-log_odds))


def expected_score(tree: Any, row: np.ndarray, known_features: set[int], node: int = 0) -> float:
    """Expected score of a tree given the features in `known`; the others follow the training rows."""
    left, right = tree.children_left[node], tree.children_right[node]
    if left < 0:
        return float(tree.value[node, 0, 1])
    feature = tree.feature[node]
    if feature in known_features:
        return expected_score(
            tree, row, known_features, left if row[feature] <= tree.threshold[node] else right
        )
    rows = tree.weighted_n_node_samples
    return sum(
        rows[side] / rows[node] * expected_score(tree, row, known_features, side) for side in (left, right)
    )


def shapley_by_definition(trees: list[Any], row: np.ndarray, feature: int) -> float:
    """Shapley's own definition, over every subset of the other features."""
    other_features = [number for number in range(FEATURES) if number != feature]
    total = 0.0
    for size in range(FEATURES):
        weight = factorial(size) * factorial(FEATURES - 1 - size) / factorial(FEATURES)
        for subset in combinations(other_features, size):
            for tree in trees:
                gain = expected_score(tree, row, {*subset, feature}) - expected_score(tree, row, {*subset})
                total += weight * gain / len(trees)
    return total


def test_shapley_values_are_those_of_the_definition() -> None:
    matrix, labels = labelled_matrix(600, 4)
    forest = build_forest(trees=3, depth=4, leaf=5, seed=2).fit(matrix, labels)
    rows, _ = labelled_matrix(4, 5)
    trees = [estimator.tree_ for estimator in forest.estimators_]
    expected = [[shapley_by_definition(trees, row, feature) for feature in range(FEATURES)] for row in rows]
    assert shapley_values(CalibratedRanker({"daily": forest}), rows) == pytest.approx(
        np.array(expected), abs=1e-12
    )


@pytest.mark.parametrize("depth", [1, 12])
def test_lightgbm_text_gives_the_forest_s_scores_at_its_thresholds(depth: int) -> None:
    matrix, labels = labelled_matrix(3_000, 6)
    forest = build_forest(trees=20, depth=depth, leaf=1, seed=3).fit(matrix, labels)
    rows = np.vstack([matrix, rows_at_thresholds(forest, np.random.default_rng(0))])
    scores = forest_to_booster(forest).predict(rows, raw_score=True)
    assert CalibratedRanker({"daily": forest}).raw_score(rows) == pytest.approx(scores, abs=1e-12)


def test_trees_without_a_split_score_the_average() -> None:
    matrix, labels = labelled_matrix(50, 7)
    forest = build_forest(trees=3, depth=2, leaf=50, seed=3).fit(matrix, labels)
    model = CalibratedRanker({"daily": forest})
    assert forest_to_booster(forest).predict(matrix) == pytest.approx(model.raw_score(matrix), abs=1e-12)
    assert not shapley_values(model, matrix).any()


def fitted_forest(seed: int) -> CalibratedRanker:
    rng = np.random.default_rng(seed)
    features = rng.exponential(10, (600, FEATURES)).round(2)
    features[rng.random((600, FEATURES)) < 0.1] = np.nan
    bought = rng.random(600) < 1 / (1 + np.nan_to_num(features[:, 0]))
    forest = build_forest(trees=12, depth=6, leaf=5, seed=seed).fit(to_matrix(features), bought)
    return CalibratedRanker({"daily": forest}, factor=0.2)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
@settings(max_examples=examples(15), deadline=None)
def test_onnx_form_gives_the_forest_s_bits_at_its_thresholds(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int
) -> None:
    model = fitted_forest(seed)
    (path,) = export_scorers(model, tmp_path_factory.mktemp("onnx"))
    threshold_rows = rows_at_thresholds(model.ranker(), np.random.default_rng(seed + 1))
    score = load_scorer(path)
    together = correct_prior(score(threshold_rows), model.factor)
    assert np.array_equal(together, model.raw_score(threshold_rows))
    assert np.array_equal(correct_prior(score(threshold_rows[:rows]), model.factor), together[:rows])


def test_onnx_form_of_trees_without_a_split(tmp_path: Path) -> None:
    features = np.ones((40, 3), dtype=np.float32)
    forest = build_forest(trees=3, depth=2, leaf=5, seed=1).fit(features, np.arange(40) % 4 == 0)
    model = CalibratedRanker({"daily": forest})
    export_scorers(model, tmp_path)
    assert np.array_equal(load_scorers(tmp_path)["daily"](features), model.raw_score(features))


def test_cross_fit_forests_are_smaller() -> None:
    params = {"n_estimators": 200, "max_depth": 8, "min_samples_leaf": 5}
    assert FAMILY.cross_fit_params(params) == params | {"n_estimators": CROSS_FIT_TREES}
    assert FAMILY.cross_fit_params(params | {"n_estimators": 20})["n_estimators"] == 20
