"""Population stability index of features between a reference period and the newest one; arrays only.

The drift of a feature is its population stability index (PSI; Siddiqi, Credit Risk Scorecards, 2006, ch. 6)
against a reference. The limit comes from the reference itself: the largest PSI of one of its windows against
the others. A feature has drifted if two successive windows exceed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from retail_core.arrays import FloatArray

BINS = 10
MIN_LIMIT = 0.1
"""Lowest limit; a PSI below it counts as stable whatever the reference."""
LIMIT_FACTOR = 2.0
"""The limit as a multiple of the largest PSI within the reference."""
SCORE = "score"
"""Name of the model's uncalibrated score among the features."""

Windows = Sequence[npt.NDArray[np.floating]]
"""Feature rows of successive periods, each of shape (rows, columns); null is NaN."""


@dataclass(frozen=True)
class FeatureDrift:
    """Drift of one feature, or of the model's score.

    Attributes:
        name: the feature, or `score`.
        psi: the smaller PSI of the two newest windows against the reference.
        limit: the feature has drifted if both PSIs are above it.
        importance: share of the model's importance; 0 for the score.
        drifted: whether both PSIs are above the limit.
    """

    name: str
    psi: float
    limit: float
    importance: float
    drifted: bool

    def to_dict(self) -> dict[str, object]:
        """The fields as a dictionary."""
        return asdict(self)


def feature_drifts(reference: Windows, newest: Windows, importance: dict[str, float]) -> list[FeatureDrift]:
    """Drift of every column, in the order of `importance`.

    Args:
        reference: at least two windows.
        newest: two windows of the same columns.
        importance: share of the model's importance by name of the column.
    """
    drifts = []
    for column, (name, share) in enumerate(importance.items()):
        reference_values = [window[:, column] for window in reference]
        newest_values = [window[:, column] for window in newest]
        edges = bin_edges(np.concatenate(reference_values))
        counts = np.array([bin_counts(values, edges) for values in reference_values])
        total = counts.sum(axis=0)
        largest = max(stability_index(total - window, window) for window in counts)
        limit = max(MIN_LIMIT, LIMIT_FACTOR * largest)
        psi = min(stability_index(total, bin_counts(values, edges)) for values in newest_values)
        drifts.append(FeatureDrift(name, psi, limit, share, psi > limit))
    return drifts


def drifted_importance(drifts: Sequence[FeatureDrift]) -> float:
    """Share of the model's importance that belongs to drifted features."""
    return sum(drift.importance for drift in drifts if drift.drifted)


def bin_edges(values: npt.NDArray[np.floating]) -> FloatArray:
    """Inner edges of at most `BINS` bins with about equal numbers of the non-missing values, ascending."""
    present = values[~np.isnan(values)]
    if not len(present):
        return np.empty(0)
    return np.unique(np.quantile(present, np.arange(1, BINS) / BINS, method="lower")).astype(np.float64)


def bin_counts(values: npt.NDArray[np.floating], edges: FloatArray) -> FloatArray:
    """Number of values in each bin; the last entry is the number of missing values (NaN)."""
    missing = np.isnan(values)
    bins = np.searchsorted(edges, values[~missing], side="left")
    return np.append(np.bincount(bins, minlength=len(edges) + 1), missing.sum()).astype(np.float64)


def stability_index(reference: FloatArray, newest: FloatArray) -> float:
    """PSI of two arrays of counts over the same bins; 0.5 is added to each count.

    >>> stability_index(np.array([50.0, 50.0]), np.array([50.0, 50.0]))
    0.0
    """
    expected, actual = ((counts + 0.5) / (counts + 0.5).sum() for counts in (reference, newest))
    return float(((actual - expected) * np.log(actual / expected)).sum())
