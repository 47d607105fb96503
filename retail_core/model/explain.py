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

from retail_core.errors import InputError
from retail_core.model.boosting import BoostedTrees
from retail_core.model.estimator import Features, Ranker, to_matrix
from retail_core.model.forest_text import as_booster
from retail_core.model.linear import LogisticRanker
from retail_core.model.matrix import Matrix
from retail_core.model.sampling import Floats

if TYPE_CHECKING:
    from lightgbm import Booster

    from retail_core.model.estimator import CalibratedRanker

ROWS = 2_000
"""Rows that a global picture is made of, where they can be afforded."""

GLOBAL_WORK = 3e9
"""Steps spent on it; a core makes some 200 million a second."""

ROWS_FOR_TWO_THREADS = 32


def contributions(model: CalibratedRanker, features: Features) -> Floats:
    """Exact Shapley values, shape (rows, features): how each feature moves each row from the average.

    Raises:
        InputError: the model has no ranker.
    """
    return _shapley(_ranker(model), to_matrix(features))


def affordable_rows(model: CalibratedRanker, work: float) -> int:
    """How many rows `contributions` explains within so many steps; at least one.

    A row costs TreeSHAP the leaves of all trees times the square of their depth: 0.2 million steps for
    300 trees of depth 5, 30 million for a forest of 200 deep ones.

    Raises:
        InputError: the model has no ranker.
    """
    ranker = _ranker(model)
    if isinstance(ranker, RandomForestClassifier):
        trees = [one.tree_ for one in ranker.estimators_]
        row = sum(tree.n_leaves * max(tree.max_depth, 1) ** 2 for tree in trees)
    elif isinstance(ranker, BoostedTrees):
        row = ranker.booster.num_trees() * 2**ranker.max_depth * ranker.max_depth**2
    else:
        row = ranker.n_features_in_
    return max(1, int(work / max(row, 1)))


def global_importance(model: CalibratedRanker, features: Features) -> Floats:
    """Mean size of the Shapley values by feature over the rows, as a share; sums to one."""
    sizes = np.abs(contributions(model, features)).mean(axis=0)
    return np.asarray(sizes / max(float(sizes.sum()), 1e-12), dtype=np.float64)


def ranked_importance(
    model: CalibratedRanker, columns: Sequence[str], features: Features
) -> list[tuple[str, float]]:
    """Features with their `global_importance` over some of the rows, largest first."""
    matrix = to_matrix(features)
    most = min(ROWS, affordable_rows(model, GLOBAL_WORK), len(matrix))
    chosen = np.unique(np.linspace(0, len(matrix) - 1, most).astype(int))
    shares = global_importance(model, matrix[chosen])
    return sorted(zip(columns, shares.tolist(), strict=True), key=lambda pair: -pair[1])


def _ranker(model: CalibratedRanker) -> Ranker:
    if model.ranker is None:
        raise InputError("The model has no ranker.", remedy="give it one before asking it.")
    return model.ranker


def _shapley(ranker: Ranker, matrix: Matrix) -> Floats:
    if isinstance(ranker, LogisticRanker):
        return ranker.contributions(matrix)
    booster: Booster = ranker.booster if isinstance(ranker, BoostedTrees) else as_booster(ranker)
    threads = 2 if len(matrix) >= ROWS_FOR_TWO_THREADS else 1
    values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=threads), dtype=np.float64)
    return values[:, :-1]
