"""Exact Shapley values of a ranker: how much each feature moves a row's score (`reasons` words them).

Values are in the unit in which the ranker adds up (log odds; for a forest the probability before calibration,
see `ModelFamily.shapley_values`); calibration keeps their order and signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from retail_core.arrays import FloatArray
from retail_core.model.families import family_of
from retail_core.model.feature_matrix import FeatureInput, to_matrix

if TYPE_CHECKING:
    from retail_core.model.estimator import CalibratedRanker

GLOBAL_ROWS = 2_000
"""Rows that a global importance averages over, where `GLOBAL_STEPS` allows as many."""

GLOBAL_STEPS = 3e9
"""Steps spent on a global importance; a core makes some 200 million a second."""


def shapley_values(model: CalibratedRanker, features: FeatureInput, policy: str | None = None) -> FloatArray:
    """Exact Shapley values, shape (rows, features): how each feature moves each row from the average.

    Args:
        model: whose ranker is explained.
        features: rows of features.
        policy: cut-off policy of the rows; None means the primary one.

    Raises:
        InputError: the model has no ranker for the policy.
    """
    ranker = model.ranker(policy)
    return np.asarray(family_of(ranker).shapley_values(ranker, to_matrix(features)), dtype=np.float64)


def max_explainable_rows(model: CalibratedRanker, step_budget: float) -> int:
    """How many rows of any policy `shapley_values` explains within `step_budget`; at least one.

    A row costs TreeSHAP the leaves of all trees times the square of their depth: 0.2 million steps for
    300 trees of depth 5, 30 million for a forest of 200 deep ones.

    Raises:
        InputError: the model has no ranker.
    """
    rankers = (model.rankers or {model.primary: model.ranker()}).values()
    steps_per_row = max(family_of(ranker).shapley_steps(ranker) for ranker in rankers)
    return max(1, int(step_budget / max(steps_per_row, 1)))


def global_importance(model: CalibratedRanker, features: FeatureInput) -> FloatArray:
    """Mean absolute Shapley value of the primary ranker by feature, as a share; sums to one."""
    sizes = np.abs(shapley_values(model, features)).mean(axis=0)
    return np.asarray(sizes / max(float(sizes.sum()), 1e-12), dtype=np.float64)


def ranked_importance(
    model: CalibratedRanker, columns: Sequence[str], features: FeatureInput
) -> list[tuple[str, float]]:
    """Columns with their `global_importance` over evenly spaced rows, largest first."""
    matrix = to_matrix(features)
    row_count = min(GLOBAL_ROWS, max_explainable_rows(model, GLOBAL_STEPS), len(matrix))
    positions = np.unique(np.linspace(0, len(matrix) - 1, row_count).astype(int))
    shares = global_importance(model, matrix[positions])
    return sorted(zip(columns, shares.tolist(), strict=True), key=lambda pair: -pair[1])
