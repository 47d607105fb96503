"""The family `rf`: a stock scikit-learn forest, searched with scikit-learn-intelex where that runs.

Only the parameters come from the forest of scikit-learn-intelex. What is evaluated and served is a stock
forest fitted anew with them: the two grow different trees, and one rebuilt from the other's trees does not
give the other's probabilities.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import Float32Array, FloatArray
from retail_core.model.families.protocol import FastForm, ModelFamily, Params
from retail_core.model.forest_formats import (
    forest_to_booster,
    forest_to_onnx,
    rows_at_thresholds,
    tree_shapley_values,
)

CROSS_FIT_TREES = 100
"""Trees of a forest that only serves to calibrate; more of them hardly change a calibrator."""

log = logging.getLogger(__name__)


def build_forest(*, trees: int, depth: int, leaf: int, seed: int) -> RandomForestClassifier:
    """An unfitted stock forest."""
    return RandomForestClassifier(
        n_estimators=trees, max_depth=depth, min_samples_leaf=leaf, random_state=seed, n_jobs=2
    )


class RandomForestFamily(ModelFamily[RandomForestClassifier]):
    """scikit-learn's random forest; Shapley values of its mean probability.

    TreeSHAP comes from LightGBM after an exact translation of the forest (`forest_formats`).
    """

    name = "rf"
    title = "random forest"
    ranker_type = RandomForestClassifier
    grid = {"n_estimators": (100, 200), "max_depth": (8, 14), "min_samples_leaf": (5, 20)}  # noqa: RUF012
    trusted_types = ("sklearn.tree._tree.Tree",)
    requirements = ("lightgbm",)
    score_threads = 2

    def build(self, params: Params, seed: int) -> RandomForestClassifier:
        """An unfitted forest."""
        return RandomForestClassifier(**params, random_state=seed, n_jobs=2)

    def complexity(self, params: Params) -> float:
        """The largest number of leaves that the trees can have together."""
        return float(params["n_estimators"] * 2 ** params["max_depth"])

    def search_estimator(self, seed: int) -> tuple[Any, str]:
        """The forest of scikit-learn-intelex, or the stock one where it cannot be imported."""
        forest, library = _fast_forest()
        return forest(random_state=seed, n_jobs=2), library

    def cross_fit_params(self, params: Params) -> Params:
        """At most `CROSS_FIT_TREES` trees."""
        return {**params, "n_estimators": min(params["n_estimators"], CROSS_FIT_TREES)}

    def score(self, ranker: RandomForestClassifier, matrix: Float32Array) -> FloatArray:
        """Mean probability of the trees, added in their order.

        scikit-learn's own sum depends on which thread is first, so it is not the same bits every time.
        """
        column = int(np.flatnonzero(ranker.classes_)[0])
        total = np.zeros(len(matrix))
        for estimator in ranker.estimators_:
            total += estimator.tree_.predict(matrix)[:, column]
        return total / len(ranker.estimators_)

    def shapley_values(self, ranker: RandomForestClassifier, matrix: Float32Array) -> FloatArray:
        """TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020)."""
        return tree_shapley_values(forest_to_booster(ranker), matrix)

    def shapley_steps(self, ranker: RandomForestClassifier) -> int:
        """Leaves of all trees times the square of their depth."""
        trees = [estimator.tree_ for estimator in ranker.estimators_]
        return sum(int(tree.n_leaves) * max(int(tree.max_depth), 1) ** 2 for tree in trees)

    def fast_form(self, ranker: RandomForestClassifier) -> FastForm:
        """scikit-learn needs milliseconds to walk a forest for one row, ONNX Runtime a tenth of that."""
        return FastForm(forest_to_onnx(ranker), rows_at_thresholds(ranker, np.random.default_rng(0)))


def _fast_forest() -> tuple[Callable[..., RandomForestClassifier], str]:
    try:
        from sklearnex.ensemble import RandomForestClassifier as FastForest
    except ImportError as error:
        log.warning("scikit-learn-intelex does not run here (%s): the search takes ten times longer.", error)
        return RandomForestClassifier, "scikit-learn"
    return FastForest, "scikit-learn-intelex"


FAMILY = RandomForestFamily()
