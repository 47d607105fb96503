"""Vector functions that the modules of the simulator share."""

from __future__ import annotations

import numpy as np

from retail_core.arrays import FloatArray, IntArray


def sigmoid(x: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def rank_in_group(group: IntArray) -> IntArray:
    """0, 1, 2, ... within each run of equal values; `group` is sorted.

    >>> rank_in_group(np.array([4, 4, 7, 9, 9, 9])).tolist()
    [0, 1, 0, 0, 1, 2]
    """
    position = np.arange(len(group))
    first = np.ones(len(group), dtype=bool)
    first[1:] = group[1:] != group[:-1]
    return position - np.maximum.accumulate(np.where(first, position, 0))


def choose(rng: np.random.Generator, weights: FloatArray) -> IntArray:
    """One column index per row, drawn by that row's weights (which sum to at most 1).

    Returns:
        shape (rows,); the number of columns where the draw falls beyond the sum.
    """
    draw = rng.random((len(weights), 1))
    return np.asarray((draw >= np.cumsum(weights, axis=1)).sum(axis=1), dtype=np.int64)
