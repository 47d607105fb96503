"""Confidence intervals of a share and of an AUC that treat users, not rows, as independent."""

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
    """AUC with one-sided bounds at level `alpha` each, the rows of one user being a cluster.

    Variance: DeLong's structural components summed by cluster (Obuchowski, Biometrics 53, 1997), never
    below that of a share that misses half a user, so that a perfect column of few buyers has an interval.
    """
    value = auc(values, labels)
    buyers = min(len(np.unique(users[labels])), len(np.unique(users[~labels])))
    if buyers < 2:
        return Interval(value, 0.0, 1.0)
    share = 1 - 1 / (2 * buyers)
    error = max(_clustered_error(values, labels, users, value), np.sqrt(share * (1 - share) / buyers))
    reach = float(norm.ppf(1 - alpha) * error)
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach))


def _clustered_error(
    values: npt.NDArray[np.generic], labels: BoolArray, users: IndexArray, value: float
) -> float:
    ranks, m, n = rankdata(values), int(labels.sum()), int((~labels).sum())
    above = (ranks[labels] - rankdata(values[labels])) / n
    below = 1 - (ranks[~labels] - rankdata(values[~labels])) / m
    size = int(users.max()) + 1
    sums = [
        _sum_by_user(above - value, users[labels], size),
        _sum_by_user(below - value, users[~labels], size),
    ]
    present = [np.bincount(users[mask], minlength=size) > 0 for mask in (labels, ~labels)]
    clusters = [int(has_rows.sum()) for has_rows in present]
    total = int((present[0] | present[1]).sum())
    variances = [
        count / (count - 1) * float((user_sums**2).sum()) / rows**2
        for user_sums, count, rows in zip(sums, clusters, (m, n), strict=True)
    ]
    covariance = total / (total - 1) * float((sums[0] * sums[1]).sum()) / (m * n)
    return float(np.sqrt(max(0.0, variances[0] + variances[1] + 2 * covariance)))


def _sum_by_user(values: FloatArray, users: IndexArray, size: int) -> FloatArray:
    return np.asarray(np.bincount(users, weights=values, minlength=size), dtype=np.float64)
