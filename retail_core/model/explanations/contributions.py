"""Why a user got a probability: exact Shapley values of the ranker (`reasons` puts them into words).

Trees are explained by LightGBM's exact TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020), a
forest after its translation (`forest_text`); a line by its terms. Values are in the ranker's own coin (log
odds; for a forest the probability before calibration); calibration keeps their order and signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from retail_core.arrays import Float32Array, FloatArray
from retail_core.model.boosting import BoostedTrees
from retail_core.model.estimator import Ranker
from retail_core.model.explanations.forest_text import as_booster
from retail_core.model.feature_matrix import Features, to_matrix
from retail_core.model.linear import LogisticRanker

if TYPE_CHECKING:
    from lightgbm import Booster

    from retail_core.model.estimator import CalibratedRanker

GLOBAL_ROWS = 2_000
"""Rows that a global picture is made of, where they can be afforded."""

GLOBAL_STEPS = 3e9
"""Steps spent on it; a core makes some 200 million a second."""

ROWS_FOR_TWO_THREADS = 32


def shapley_values(model: CalibratedRanker, features: Features, policy: str | None = None) -> FloatArray:
    """Exact Shapley values, shape (rows, features): how each feature moves each row from the average.

    `policy` says whose rows they are; None means the primary one.

    Raises:
        InputError: the model has no ranker for the policy.
    """
    return _shapley(model.ranker(policy), to_matrix(features))


def max_explainable_rows(model: CalibratedRanker, work: float) -> int:
    """How many rows of any policy `contributions` explains within so many steps; at least one.

    A row costs TreeSHAP the leaves of all trees times the square of their depth: 0.2 million steps for
    300 trees of depth 5, 30 million for a forest of 200 deep ones.

    Raises:
        InputError: the model has no ranker.
    """
    dearest = max(_steps(ranker) for ranker in (model.rankers or {model.primary: model.ranker()}).values())
    return max(1, int(work / max(dearest, 1)))


def _steps(ranker: Ranker) -> int:
    if isinstance(ranker, RandomForestClassifier):
        trees = [one.tree_ for one in ranker.estimators_]
        return sum(int(tree.n_leaves) * max(int(tree.max_depth), 1) ** 2 for tree in trees)
    if isinstance(ranker, BoostedTrees):
        return int(ranker.booster.num_trees() * 2**ranker.max_depth * ranker.max_depth**2)
    return int(ranker.n_features_in_)


def global_importance(model: CalibratedRanker, features: Features) -> FloatArray:
    """Mean size of the Shapley values of the primary ranker by feature, as a share; sums to one."""
    sizes = np.abs(shapley_values(model, features)).mean(axis=0)
    return np.asarray(sizes / max(float(sizes.sum()), 1e-12), dtype=np.float64)


def ranked_importance(
    model: CalibratedRanker, columns: Sequence[str], features: Features
) -> list[tuple[str, float]]:
    """Features with their `global_importance` over some of the rows, largest first."""
    matrix = to_matrix(features)
    most = min(GLOBAL_ROWS, max_explainable_rows(model, GLOBAL_STEPS), len(matrix))
    chosen = np.unique(np.linspace(0, len(matrix) - 1, most).astype(int))
    shares = global_importance(model, matrix[chosen])
    return sorted(zip(columns, shares.tolist(), strict=True), key=lambda pair: -pair[1])


def _shapley(ranker: Ranker, matrix: Float32Array) -> FloatArray:
    if isinstance(ranker, LogisticRanker):
        return ranker.contributions(matrix)
    booster: Booster = ranker.booster if isinstance(ranker, BoostedTrees) else as_booster(ranker)
    threads = 2 if len(matrix) >= ROWS_FOR_TWO_THREADS else 1
    values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads), dtype=np.float64)
    return values[:, :-1]
