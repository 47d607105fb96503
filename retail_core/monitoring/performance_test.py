"""Sequential test of live F1 against a reference, at the reference base rate. Arrays only.

F1 at the prior pi is at least c if and only if

    pi (2 - c) r - c (1 - pi) f - c pi >= 0,

with recall r and false positive rate f, neither of which depends on the base rate. The condition is linear,
so the pooled counts of any days estimate its left side without bias; divided by c (pi r + (1 - pi) f + pi) at
the reference it is about F1 / c - 1. c is `limit` times the reference F1.

The test is a mixture e-detector over the start days of a rolling window (Shin, Ramdas & Rinaldo,
"E-detectors", 2022; over start days as Shiryaev and Roberts): for each start day the ratio of two marginal
densities of the pooled estimate, that of a lasting fall of unknown size over that of a model exactly at the
limit. Its variance is binomial times the design effect of users who return and of common day effects; the
error of the reference itself is part of both densities. It may be inspected daily; its limit is chosen by
simulation (docs/retraining.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IntArray

E_LIMIT = 400.0
"""The trigger fires at this sum of e-values; chosen by simulation, see docs/retraining.md."""

MIN_START_BUYERS = 20
"""A start day counts if at least this many buyers came since: with fewer the estimate is not normal."""

_FALLS = np.arange(0.025, 1.0, 0.025)
"""Grid of relative falls below the limit."""

_FALL_SCALE = 0.25
"""Scale of the exponential distribution of the size of a fall below the limit."""

_NORMAL_95 = 1.96


@dataclass(frozen=True)
class ReferencePerformance:
    """Performance of a version on its test rows at its best-F1 threshold.

    Attributes:
        version: model version.
        f1: F1, positive.
        recall: share of the buyers that were expected to buy.
        false_positive_rate: share of the non-buyers that were expected to buy.
        base_rate: share of buyers.
        relative_error: standard error of `f1` divided by `f1`.
        design_effect: variance of F1 divided by that of independent rows, at least 1.
    """

    version: str
    f1: float
    recall: float
    false_positive_rate: float
    base_rate: float
    relative_error: float
    design_effect: float

    @property
    def scale(self) -> float:
        """Pi r + (1 - pi) f + pi."""
        expected = self.base_rate * self.recall + (1 - self.base_rate) * self.false_positive_rate
        return expected + self.base_rate

    def f1_at(self, recall: float, false_positive_rate: float) -> float:
        """F1 at the reference base rate of a model with these rates."""
        prior = self.base_rate
        return 2 * prior * recall / (prior * recall + (1 - prior) * false_positive_rate + prior)


@dataclass(frozen=True)
class ConfusionDays:
    """Confusion counts of successive matured days, each of shape (..., days).

    Attributes:
        buyers: users who bought.
        non_buyers: users who did not.
        true_positives: buyers who were expected to buy.
        false_positives: non-buyers who were expected to buy.
        references: of the versions whose lists these are.
        version: for each day the index of its reference, shape (days,).
    """

    buyers: IntArray
    non_buyers: IntArray
    true_positives: IntArray
    false_positives: IntArray
    references: tuple[ReferencePerformance, ...]
    version: IntArray

    def per_day(self, values: Sequence[float]) -> FloatArray:
        """A value of each reference as one of each day, shape (days,)."""
        return np.asarray(values, dtype=np.float64)[self.version]


@dataclass(frozen=True)
class PerformanceEvidence:
    """Evidence of the newest days of a window.

    Attributes:
        e_value: sum of the e-values over the start days; 0 where none has enough buyers.
        start: index of the start day with the largest e-value.
        ratio: F1 at the reference base rate divided by the reference F1, over the whole window; the mean by
            buyers where several versions served it.
        interval: 95 % interval of `ratio`, without the reference's error.
    """

    e_value: float
    start: int
    ratio: float
    interval: tuple[float, float]


def independent_relative_error(reference: ReferencePerformance, buyers: float, non_buyers: float) -> float:
    """Relative standard error of F1 near the reference, were all rows independent (delta method)."""
    recall, rate, prior = reference.recall, reference.false_positive_rate, reference.base_rate
    slope_recall = (1 / max(recall, 1e-9)) * (1 - prior * recall / reference.scale)
    slope_rate = (1 - prior) / reference.scale
    variance = (
        slope_recall**2 * recall * (1 - recall) / buyers + slope_rate**2 * rate * (1 - rate) / non_buyers
    )
    return math.sqrt(variance)


def performance_evidence(days: ConfusionDays, limit: float) -> PerformanceEvidence:
    """Evidence at the last day for a fall of F1 below `limit` times the reference at any day of the window.

    Args:
        days: at least one day, with at least one buyer and one non-buyer of each version.
        limit: share of the reference F1, for example 0.95.
    """
    log_e = start_log_e_values(days, limit)
    ratio, variance = 0.0, 0.0
    for index, reference in enumerate(days.references):
        mask = days.version == index
        buyers, non_buyers = float(days.buyers[mask].sum()), float(days.non_buyers[mask].sum())
        if not buyers or not non_buyers:
            continue
        recall, rate = days.true_positives[mask].sum() / buyers, days.false_positives[mask].sum() / non_buyers
        share = buyers / float(days.buyers.sum())
        ratio += share * reference.f1_at(float(recall), float(rate)) / reference.f1
        error = independent_relative_error(reference, buyers, non_buyers)
        variance += share**2 * error**2 * reference.design_effect
    half = _NORMAL_95 * math.sqrt(variance)
    interval = (max(0.0, ratio - half), ratio + half)
    return PerformanceEvidence(float(np.exp(log_e).sum()), int(np.argmax(log_e)), ratio, interval)


def start_log_e_values(days: ConfusionDays, limit: float) -> FloatArray:
    """Log e-value at the last day for a fall at each day, shape (..., days); -inf with too few buyers."""
    terms = [_Terms.of(reference, limit) for reference in days.references]
    buyers, non_buyers = (np.maximum(_since(counts), 1) for counts in (days.buyers, days.non_buyers))
    of_buyer = days.per_day([term.recall for term in terms]) * days.true_positives
    of_buyer = of_buyer - days.per_day([term.constant for term in terms]) * days.buyers
    of_other = days.per_day([term.rate for term in terms]) * days.false_positives
    estimate = _since(of_buyer) / buyers - _since(of_other) / non_buyers
    variance = (
        _since(days.per_day([term.recall_variance for term in terms]) * days.buyers) / buyers**2
        + _since(days.per_day([term.rate_variance for term in terms]) * days.non_buyers) / non_buyers**2
    )
    for index, reference in enumerate(days.references):
        share = _since(np.where(days.version == index, days.buyers, 0)) / buyers
        variance = variance + (share * reference.relative_error) ** 2
    return np.where(buyers >= MIN_START_BUYERS, _log_e_value(estimate, variance), -np.inf)


def smallest_detectable_fall(
    buyers: float, non_buyers: float, reference: ReferencePerformance, limit: float
) -> float | None:
    """Smallest fall of F1 below the reference that fires within these rows with about 80 % probability.

    None where not even a fall by 95 % does.
    """
    terms = _Terms.of(reference, limit)
    noise = terms.recall_variance / buyers + terms.rate_variance / non_buyers
    variance = np.array([noise + reference.relative_error**2])
    for fall in np.arange(1 - limit, 0.951, 0.01):
        estimate = np.array([(1 - fall) / limit - 1 + 0.84 * math.sqrt(noise)])
        if estimate[0] < 0 and float(_log_e_value(estimate, variance)[0]) >= math.log(E_LIMIT):
            return float(fall)
    return None


@dataclass(frozen=True)
class _Terms:
    """The linear condition of one version, divided by its scale at the reference.

    The estimate is `recall` * r - `rate` * f - `constant`; the variances are per buyer and per non-buyer.
    """

    recall: float
    rate: float
    constant: float
    recall_variance: float
    rate_variance: float

    @classmethod
    def of(cls, reference: ReferencePerformance, limit: float) -> _Terms:
        c, prior = limit * reference.f1, reference.base_rate
        recall, rate = prior * (2 - c) / (c * reference.scale), (1 - prior) / reference.scale
        r, f, effect = reference.recall, reference.false_positive_rate, reference.design_effect
        return cls(
            recall,
            rate,
            prior / reference.scale,
            recall**2 * r * (1 - r) * effect,
            rate**2 * f * (1 - f) * effect,
        )


def _since(counts: IntArray | FloatArray) -> FloatArray:
    """Sum of the counts from each day to the last, as float."""
    return np.asarray(np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1], dtype=np.float64)


def _log_e_value(estimate: FloatArray, variance: FloatArray) -> FloatArray:
    """Log ratio of the marginal density of a fall to the density at the limit."""
    weights = np.exp(-_FALLS / _FALL_SCALE)
    log_ratio = (-2 * estimate[..., None] * _FALLS - _FALLS**2) / (2 * variance[..., None])
    highest = log_ratio.max(axis=-1, keepdims=True)
    mean = np.exp(log_ratio - highest) @ (weights / weights.sum())
    return np.asarray(np.log(mean) + highest[..., 0])
