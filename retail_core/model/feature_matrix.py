"""Features as a ranker sees them: one dense float32 matrix with nulls encoded as a number.

Separate because fit, search and prediction must all encode features the same way.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from retail_core.arrays import Float32Array, FloatArray

MISSING = np.float32(1e9)
"""Encodes a null: larger than any value, since most nulls mean "never", which is the longest time ago."""

FeatureInput = pd.DataFrame | FloatArray | Float32Array


def to_matrix(features: FeatureInput) -> Float32Array:
    """Features cast from float64 to float32, nulls as `MISSING`, C order, shape (rows, features)."""
    if isinstance(features, np.ndarray) and features.dtype == np.float32 and not np.isnan(features).any():
        return np.ascontiguousarray(features)
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        matrix = np.asarray(features, dtype=np.float64).astype(np.float32, order="C")
    np.clip(matrix, -largest, largest, out=matrix)
    matrix[np.isnan(matrix)] = MISSING
    return matrix
