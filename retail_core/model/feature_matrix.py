"""Features as a model sees them: one dense float32 matrix, nulls as a number of their own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from retail_core.arrays import Float32Array

MISSING = np.float32(1e9)
"""What a null becomes: larger than any value. Most nulls mean "never", and never is longest ago."""

Features = pd.DataFrame | npt.NDArray[np.float64] | Float32Array


def to_matrix(features: Features) -> Float32Array:
    """Features as a ranker sees them: float64 cast to float32, nulls as `MISSING`, C order.

    Fit, search and predict all go through here.
    """
    if isinstance(features, np.ndarray) and features.dtype == np.float32 and not np.isnan(features).any():
        return np.ascontiguousarray(features)
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore"):
        matrix = np.asarray(features, dtype=np.float64).astype(np.float32, order="C")
    np.clip(matrix, -largest, largest, out=matrix)
    matrix[np.isnan(matrix)] = MISSING
    return matrix
