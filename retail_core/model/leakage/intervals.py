"""Intervals for a share and for an AUC that count users, not their rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, norm, rankdata

from retail_core.arrays import BoolArray, FloatArray, IndexArray


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds."""

    value: float
    low: float
    high: float


def share_interval(hits: int, n: int, alpha: float) -> Interval:
    """A share with its one-sided exact bounds, each at level `alpha` (Clopper and Pearson 1934).

    >>> share_interval(59, 59, 0.05).low > 0.95 > share_interval(58, 58, 0.05).low
    True
    """
    low = 0.0 if hits == 0 else float(beta.ppf(alpha, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - alpha, hits + 1, n - hits))
    return Interval(hits / n if n else 0.5, low, high)


def auc(values: npt.NDArray[np.generic], labels: BoolArray) -> float:
    """Area under the ROC curve, ties counted half; 0.5 where a class is missing."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return 0.5
    ranks = rankdata(values)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auc_interval(
    values: npt.NDArray[np.generic], labels: BoolArray, users: IndexArray, alpha: float
) -> Interval:
    """AUC with bounds at level `alpha` each, rows of one user being a cluster.

    Variance: DeLong's structural components summed by cluster (Obuchowski, Biometrics 53, 1997), never
    below that of a share that misses half a user, so that a perfect column of few buyers is not certain.
    """
    value = auc(values, labels)
    buyers = min(len(np.unique(users[labels])), len(np.unique(users[~labels])))
    if buyers < 2:
        return Interval(value, 0.0, 1.0)
    near = 1 - 1 / (2 * buyers)
    error = max(_clustered_error(values, labels, users, value), np.sqrt(near * (1 - near) / buyers))
    reach = float(norm.ppf(1 - alpha) * error)
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach))


def _clustered_error(
    values: npt.NDArray[np.generic], labels: BoolArray, users: IndexArray, value: float
) -> float:
    ranks, m, n = rankdata(values), int(labels.sum()), int((~labels).sum())
    above = (ranks[labels] - rankdata(values[labels])) / n
    below = 1 - (ranks[~labels] - rankdata(values[~labels])) / m
    size = int(users.max()) + 1
    sums = [_by_user(above - value, users[labels], size), _by_user(below - value, users[~labels], size)]
    present = [np.bincount(users[part], minlength=size) > 0 for part in (labels, ~labels)]
    clusters = [int(one.sum()) for one in present]
    total = int((present[0] | present[1]).sum())
    own = [
        count / (count - 1) * float((one**2).sum()) / rows**2
        for one, count, rows in zip(sums, clusters, (m, n), strict=True)
    ]
    shared = total / (total - 1) * float((sums[0] * sums[1]).sum()) / (m * n)
    return float(np.sqrt(max(0.0, own[0] + own[1] + 2 * shared)))


def _by_user(values: FloatArray, users: IndexArray, size: int) -> FloatArray:
    return np.asarray(np.bincount(users, weights=values, minlength=size), dtype=np.float64)
