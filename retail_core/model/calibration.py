"""Calibration: monotone maps from score to probability, stored as plain arrays.

Every calibrator is a piecewise-linear, strictly increasing map between logits, given by its knots.
Because it is monotone it keeps the order of the users; because it is continuous a difference in the last
digit of a score cannot become a jump of the probability. Saved models name
`retail_core.model.calibration.Calibrator` and its attributes: keep them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from retail_core.arrays import BoolArray, FloatArray

ISOTONIC_POSITIVES = 1_000
_SMALLEST = 1e-6
_FAR = 40.0


@dataclass(frozen=True)
class Calibrator:
    """Piecewise-linear map between logits, with knots `scores` and `values` (ascending).

    `method` is the name of the fit: isotonic or sigmoid.
    """

    method: str
    scores: FloatArray
    values: FloatArray

    def __call__(self, score: FloatArray) -> FloatArray:
        """Probabilities for scores in [0, 1]; outside the knots the nearest knot's value holds."""
        return expit(np.interp(logit(score), self.scores, self.values))


def fit_calibrator(score: FloatArray, labels: BoolArray, weights: FloatArray | None = None) -> Calibrator:
    """Isotonic from 1,000 positives, else a sigmoid on the logit.

    Args:
        score: prior-corrected scores in [0, 1], of rows the ranker was not fitted on.
        labels: whether each bought.
        weights: how many rows of the population each stands for; None for one.
    """
    weights = np.ones(len(score)) if weights is None else weights
    if int(labels.sum()) >= ISOTONIC_POSITIVES:
        return _isotonic(score, labels, weights)
    return _sigmoid(score, labels, weights)


def logit(probability: FloatArray) -> FloatArray:
    """Log odds, with probabilities clipped one millionth away from 0 and 1."""
    clipped = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float64)


def expit(value: FloatArray) -> FloatArray:
    """The inverse of `logit`."""
    return np.asarray(1 / (1 + np.exp(-value)), dtype=np.float64)


def _isotonic(score: FloatArray, labels: BoolArray, weights: FloatArray) -> Calibrator:
    """Centred isotonic regression: each block of equal value becomes one knot at its mean logit.

    Joining the blocks' centres instead of their edges leaves no flat steps, so no ties between users. The
    rate of a block without buyers (non-buyers) is set to half a sampled row's weight above 0 (below 1); the
    weights of the two classes differ, and one weight for both would overestimate the rate of such a block.
    """
    block_centers, rate, mass = _blocks(logit(score), labels.astype(np.float64), weights)
    buyer, non_buyer = weights[labels].mean(), weights[~labels].mean()
    bounded = np.clip(rate, 0.5 * buyer / (mass + buyer), 1 - 0.5 * non_buyer / (mass + non_buyer))
    # The rate of a block of very few rows may be moved beyond its neighbours': then they become one block.
    block_centers, rate, _ = _blocks(block_centers, bounded, mass)
    return Calibrator("isotonic", block_centers, logit(rate))


def _blocks(
    x: FloatArray, rate: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean `x`, mean rate and weight of the blocks of isotonic regression, ascending in both means."""
    fitted = IsotonicRegression().fit(x, rate, sample_weight=weights).predict(x)
    _, block = np.unique(fitted, return_inverse=True)
    mass: FloatArray = np.bincount(block, weights).astype(np.float64)
    return np.bincount(block, weights * x) / mass, np.bincount(block, weights * rate) / mass, mass


def _sigmoid(score: FloatArray, labels: BoolArray, weights: FloatArray) -> Calibrator:
    """A sigmoid of slope * logit(score) + offset; a slope that would reverse the order is replaced by 1."""
    x = logit(score)
    model = LogisticRegression(C=1e6, max_iter=1000).fit(x[:, None], labels, sample_weight=weights)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        rate = np.array([np.average(labels, weights=weights)])
        slope, offset = 1.0, float(logit(rate)[0] - np.average(x, weights=weights))
    ends = np.array([-_FAR, _FAR])
    return Calibrator("sigmoid", ends, slope * ends + offset)


def reliability(probability: FloatArray, labels: BoolArray, bins: int = 10) -> list[dict[str, float]]:
    """Mean probability, share of buyers and number of rows, in bins of equally many rows, lowest first."""
    order = np.argsort(probability, kind="stable")
    return [
        {
            "probability": float(probability[positions].mean()),
            "bought": float(labels[positions].mean()),
            "rows": float(len(positions)),
        }
        for positions in np.array_split(order, bins)
        if len(positions)
    ]
