"""Type aliases of NumPy arrays, defined once so that a name means the same element type everywhere.

`...Array` leaves the number of dimensions open; `...Vector` has exactly one dimension.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
"""Probabilities, scores, feature values."""

Float32Array = npt.NDArray[np.float32]
"""Feature matrices in the precision that models are fitted with."""

IntArray = npt.NDArray[np.int64]
"""Counts, row numbers, and instants in milliseconds or microseconds since 1970 UTC."""

IndexArray = npt.NDArray[np.intp]
"""Positions that index another array."""

BoolArray = npt.NDArray[np.bool_]
"""Row masks and binary labels."""

FloatVector = np.ndarray[tuple[int], np.dtype[np.float64]]
IntVector = np.ndarray[tuple[int], np.dtype[np.int64]]
IndexVector = np.ndarray[tuple[int], np.dtype[np.intp]]
BoolVector = np.ndarray[tuple[int], np.dtype[np.bool_]]
