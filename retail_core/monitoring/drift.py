"""Whether the users who are asked about have become others than those the model learnt from. No store.

A feature's shift is its population stability index (PSI; Siddiqi, Credit Risk Scorecards, 2006, ch. 6)
against a reference. How large a PSI means nothing is found from the reference itself: its own windows,
each against all others. Only a shift beyond that, in two windows in a row, is drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

BINS = 10
FLOOR = 0.1
"""A PSI below it is taken for stability whatever the reference says."""
SLACK = 2.0
"""How many times the largest PSI within the reference a shift must reach."""
SCORE = "score"

Floats = npt.NDArray[np.floating]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """How far one feature, or the model's score, has moved.

    Attributes:
        name: the feature; `score` is what the model makes of all of them, before calibration.
        psi: the smaller of the PSIs of the two newest windows against the reference.
        limit: above it is drift.
        importance: the feature's share of the model's importance; 0 for the score.
        drifted: whether both windows are above the limit.
    """

    name: str
    psi: float
    limit: float
    importance: float
    drifted: bool

    def to_dict(self) -> dict[str, object]:
        """The same as plain values."""
        return asdict(self)


def shifts(reference: Sequence[Floats], newest: Sequence[Floats], weights: dict[str, float]) -> list[Shift]:
    """The shift of every column, in the order of `weights`.

    Args:
        reference: at least two windows, each of shape (rows, columns); null is NaN.
        newest: two windows of the same columns.
        weights: importance by name of the column.
    """
    found = []
    for column, (name, weight) in enumerate(weights.items()):
        before, after = [w[:, column] for w in reference], [w[:, column] for w in newest]
        edges = bin_edges(np.concatenate(before))
        counts = np.array([bin_counts(values, edges) for values in before])
        usual = max(stability_index(counts.sum(axis=0) - own, own) for own in counts)
        limit = max(FLOOR, SLACK * usual)
        psi = min(stability_index(counts.sum(axis=0), bin_counts(values, edges)) for values in after)
        found.append(Shift(name, psi, limit, weight, psi > limit))
    return found


def drifted_share(found: Sequence[Shift]) -> float:
    """Share of the model's importance that lies in features that have drifted."""
    return sum(one.importance for one in found if one.drifted)


def bin_edges(values: Floats) -> Shares:
    """Inner borders of at most `BINS` bins of about equal numbers of the known values, ascending."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.empty(0)
    return np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="lower")).astype(np.float64)


def bin_counts(values: Floats, edges: Shares) -> Shares:
    """How many values lie in each bin; the last entry counts the unknown ones (NaN)."""
    unknown = np.isnan(values)
    bins = np.searchsorted(edges, values[~unknown], side="left")
    return np.append(np.bincount(bins, minlength=len(edges) + 1), unknown.sum()).astype(np.float64)


def stability_index(reference: Shares, other: Shares) -> float:
    """PSI of two rows of counts over the same bins; half a value is added to each bin.

    >>> stability_index(np.array([50.0, 50.0]), np.array([50.0, 50.0]))
    0.0
    """
    a, b = ((counts + 0.5) / (counts + 0.5).sum() for counts in (reference, other))
    return float(((b - a) * np.log(b / a)).sum())
