"""Sequential test of promised against observed buyers: a mixture e-detector over several start days.

Arrays only. Each day the buyers that a list promised (the sum of its probabilities) are compared with those
that came. For every start day of the window the evidence against calibration is a ratio of two marginal
likelihoods of the days since then: that of a lasting change of unknown size over that of no change. Under no
change its expectation is 1, so it is an e-value, and the sum over the start days is an e-detector (Shin,
Ramdas & Rinaldo, "E-detectors", 2022; the mixture over start days is that of Shiryaev and Roberts). The test
may be inspected daily; its limit is chosen by simulation (docs/retraining.md).

The number of buyers of a day has the mean and the variance of independent users with these probabilities
(Poisson binomial), times a gamma day effect of variance `overdispersion`, which covers good and bad days of
the shop as a whole; its likelihood is binomial or negative binomial with that variance. No change means that
observed divided by promised buyers lies within the tolerance, rather near 1, times the error of the
reference: calibrators that were fitted on n buyers are off by about 1 / sqrt(n).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IntArray

E_LIMIT = 150.0
"""The trigger fires at this sum of e-values; chosen by simulation, see docs/retraining.md."""

USUAL_OVERDISPERSION = 0.01
"""Variance of the day effect that is assumed before the shop's own days tell it: 10 % from day to day."""

_USUAL_DAYS = 7
"""Weight of `USUAL_OVERDISPERSION` in days."""

_LOG_RATIO = np.arange(-2.0, 2.0001, 0.02)
"""Grid of log(observed / promised)."""

_CHANGE_SCALE = 0.5
"""Scale of the exponential distribution of the size of a change, beyond the tolerance."""

_POISSON = 1e-6
"""Dispersion below which counts are Poisson."""

_NORMAL_95 = 1.96


@dataclass(frozen=True)
class PromisedDays:
    """Promised and observed buyers of successive lists; arrays of shape (..., days).

    Attributes:
        promised: sum of the probabilities, positive.
        squares: sum of the squared probabilities.
        observed: number of buyers.
    """

    promised: FloatArray
    squares: FloatArray
    observed: IntArray | FloatArray

    def since(self, start: int) -> PromisedDays:
        """The days from index `start` on."""
        return PromisedDays(self.promised[..., start:], self.squares[..., start:], self.observed[..., start:])


@dataclass(frozen=True)
class CalibrationEvidence:
    """Evidence of the newest days of a window.

    Attributes:
        e_value: sum of the e-values over the start days.
        start: index of the start day with the largest e-value.
        deviation: observed / promised - 1 over the days since `start`.
        interval: 95 % interval of the deviation, with overdispersion and the reference's error.
    """

    e_value: float
    start: int
    deviation: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class CalibrationNull:
    """What counts as no change.

    Attributes:
        tolerance: largest relative deviation that is no change.
        reference_buyers: number of buyers that the calibrators were fitted on.
        overdispersion: variance of the day effect; an array of shape (...) for days of shape (..., days).
    """

    tolerance: float
    reference_buyers: float
    overdispersion: float | FloatArray

    @property
    def reference_variance(self) -> float:
        """Variance of the log of the reference's error."""
        return 1 / max(self.reference_buyers, 1.0)


def calibration_evidence(days: PromisedDays, null: CalibrationNull) -> CalibrationEvidence:
    """Evidence at the last day for a change at any day of the window, of at least one day."""
    log_e = start_log_e_values(days, null)
    start = int(np.argmax(log_e))
    deviation, interval = observed_deviation(days.since(start), null)
    return CalibrationEvidence(float(np.exp(log_e).sum()), start, deviation, interval)


def start_log_e_values(days: PromisedDays, null: CalibrationNull) -> FloatArray:
    """Log e-value at the last day for a change at each day, shape (..., days)."""
    likelihood = _day_log_likelihood(days, np.asarray(null.overdispersion))
    since = np.cumsum(likelihood[..., ::-1, :], axis=-2)[..., ::-1, :]
    unchanged, changed = _null_weights(null), _change_weights(null.tolerance)
    return _log_mean(since, changed) - _log_mean(since, unchanged)


def observed_deviation(days: PromisedDays, null: CalibrationNull) -> tuple[float, tuple[float, float]]:
    """Observed / promised - 1 over all given days, and its 95 % interval."""
    expected, count = float(days.promised.sum()), float(days.observed.sum())
    share = float((days.promised**2).sum()) / expected**2
    spread = math.sqrt(1 / max(count, 0.5) + null.overdispersion * share + null.reference_variance)
    center = math.log(max(count, 0.5) / expected)
    low, high = (math.exp(center + sign * _NORMAL_95 * spread) - 1 for sign in (-1, 1))
    return count / expected - 1, (low, high)


def estimate_overdispersion(days: PromisedDays) -> FloatArray:
    """Variance of the day effect, from successive differences, which a lasting change hardly moves.

    Half the mean squared difference of successive ratios observed / promised (von Neumann's mean square
    successive difference, 1941), less the variance of independent users, averaged with
    `USUAL_OVERDISPERSION` at the weight of a week. Shape (...) where the arguments have (..., days).
    """
    differences = days.promised.shape[-1] - 1
    if differences < 1:
        return np.full(days.promised.shape[:-1], USUAL_OVERDISPERSION)
    ratio = days.observed / days.promised
    level = np.maximum(days.observed.sum(axis=-1) / days.promised.sum(axis=-1), 0.05)[..., None]
    independent = level / days.promised - level**2 * days.squares / days.promised**2
    expected = independent[..., 1:] + independent[..., :-1]
    excess = ((np.diff(ratio, axis=-1) ** 2 - expected) / 2 / level**2).sum(axis=-1)
    estimate = (excess + USUAL_OVERDISPERSION * _USUAL_DAYS) / (differences + _USUAL_DAYS)
    return np.asarray(np.clip(estimate, USUAL_OVERDISPERSION / 4, 1.0))


def smallest_detectable_fall(days: PromisedDays, count: int, null: CalibrationNull) -> float | None:
    """Smallest fall of observed below promised that fires after `count` days with about 80 % probability.

    The days are as the mean of the given ones. None where not even a fall by 95 % fires.
    """
    promised, squares = float(days.promised.mean()), float(days.squares.mean())
    for fall in np.arange(0.05, 0.96, 0.025):
        mean = (1 - fall) * promised
        variance = mean - (1 - fall) ** 2 * squares + null.overdispersion * mean**2
        unlucky = mean + 0.84 * math.sqrt(variance / count)
        future = PromisedDays(*(np.full(count, value) for value in (promised, squares, unlucky)))
        if unlucky < promised and np.exp(start_log_e_values(future, null)).sum() >= E_LIMIT:
            return float(fall)
    return None


def _day_log_likelihood(days: PromisedDays, overdispersion: FloatArray) -> FloatArray:
    """Log-likelihood over the grid, up to a constant per day, shape (..., days, grid).

    With the variance `mean + dispersion * mean**2` it is negative binomial, for a negative dispersion -1 / n
    binomial of n trials: both have this form.
    """
    mean = days.promised[..., None] * np.exp(_LOG_RATIO)
    dispersion = overdispersion[..., None] - days.squares / days.promised**2
    dispersion = np.where(np.abs(dispersion) < _POISSON, _POISSON, dispersion)[..., None]
    count = np.asarray(days.observed, dtype=np.float64)[..., None]
    factor = np.log(np.maximum(1 + dispersion * mean, 1e-9))
    return np.asarray(count * np.log(mean) - (count + 1 / dispersion) * factor)


def _null_weights(null: CalibrationNull) -> FloatArray:
    """Normal with half the tolerance as deviation, cut off at it, times the reference's log-normal error."""
    edge, spread = math.log1p(null.tolerance), max(math.sqrt(null.reference_variance), 0.01)
    centers = np.linspace(-edge, edge, 11)
    weights = np.exp(-0.5 * (2 * centers / edge) ** 2)
    density = np.exp(-0.5 * ((_LOG_RATIO[:, None] - centers) / spread) ** 2) @ weights
    return np.asarray(density / density.sum())


def _change_weights(tolerance: float) -> FloatArray:
    beyond = np.abs(_LOG_RATIO) - math.log1p(tolerance)
    density = np.where(beyond > 0, np.exp(-beyond / _CHANGE_SCALE), 0.0)
    return np.asarray(density / density.sum())


def _log_mean(log_values: FloatArray, weights: FloatArray) -> FloatArray:
    """Log of the weighted mean of exp(log_values) over the last axis."""
    used = weights > 0
    highest = log_values[..., used].max(axis=-1, keepdims=True)
    mean = np.exp(log_values[..., used] - highest) @ weights[used]
    return np.asarray(np.log(mean) + highest[..., 0])
