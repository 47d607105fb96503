"""Which of two models gives better probabilities: a paired test on log loss that may be inspected every day.

Pure functions. Both models score the same users of the same days; `DayDifference` is one matured day,
`compare` the always-valid interval over all days so far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.calibration import logit

ALPHA = 0.001
"""Probability of ever deciding wrongly between two models of equal quality, however often one looks."""

CLIP = 1e-4
"""Probabilities are moved into [CLIP, 1 - CLIP], so that no user's difference of log loss exceeds 9.3."""

MIN_EXPECTED_BUYERS = 20.0
"""Successive days are joined until so many buyers are expected: sums are nearly normal then."""

PRIOR_DISPERSION = 1.5
"""Expected ratio of the variance of a day's mean to the one that the probabilities imply."""

PRIOR_DAYS = 20.0
"""Weight of `PRIOR_DISPERSION`, as a number of observed days."""

EFFECT_SCALE = 2.0
"""Standard deviation of the difference before data, in standard errors of the first day."""


@dataclass(frozen=True)
class DayDifference:
    """Log loss of the champion minus that of the other model, summed over the users of one or more days.

    Attributes:
        rows: number of users.
        buyers: number of them that bought.
        expected_buyers: buyers that the two models expect, on average.
        total: sum of the differences; positive where the other model is better.
        variance: variance of `total` that the probabilities imply; known before any outcome.
        champion_loss: sum of the champion's log loss.
    """

    rows: int
    buyers: int
    expected_buyers: float
    total: float
    variance: float
    champion_loss: float

    def __add__(self, other: DayDifference) -> DayDifference:
        return DayDifference(
            self.rows + other.rows,
            self.buyers + other.buyers,
            self.expected_buyers + other.expected_buyers,
            self.total + other.total,
            self.variance + other.variance,
            self.champion_loss + other.champion_loss,
        )


@dataclass(frozen=True)
class PairedComparison:
    """The comparison after some matured days.

    Attributes:
        days: number of days.
        rows: number of scored users over all days.
        buyers: number of them that bought.
        difference: mean log loss of the champion minus that of the other model; None without information.
        interval: of `difference`; valid at every day at once with probability 1 - `ALPHA`.
        champion_loss: mean log loss of the champion; None without rows.
        dispersion: observed variance of daily means over the one that the probabilities imply; None with
            fewer than two days of enough buyers.
    """

    days: int
    rows: int
    buyers: int
    difference: float | None
    interval: tuple[float, float] | None
    champion_loss: float | None
    dispersion: float | None = None


def day_difference(purchased: BoolArray, champion: FloatArray, other: FloatArray) -> DayDifference:
    """The difference of one day from outcomes and the probabilities of two models, arrays of equal length.

    The variance of one user's difference is p (1 - p) d^2, where d is the difference of the log odds and p
    the mean of the two probabilities.
    """
    champion, other = np.clip(champion, CLIP, 1 - CLIP), np.clip(other, CLIP, 1 - CLIP)
    champion_loss = -np.log(np.where(purchased, champion, 1 - champion))
    other_loss = -np.log(np.where(purchased, other, 1 - other))
    middle = (champion + other) / 2
    variance = middle * (1 - middle) * (logit(champion) - logit(other)) ** 2
    return DayDifference(
        rows=len(purchased),
        buyers=int(purchased.sum()),
        expected_buyers=float(middle.sum()),
        total=float((champion_loss - other_loss).sum()),
        variance=float(variance.sum()),
        champion_loss=float(champion_loss.sum()),
    )


def compare(days: Sequence[DayDifference], alpha: float = ALPHA) -> PairedComparison:
    """Compare two models over matured days, oldest first.

    The mean difference of day t is taken as normal with mean m and variance f v(t): v(t) is the variance that
    the probabilities imply, and f allows for variation between days that they do not know. Before data, f has
    an inverse gamma distribution with mean near `PRIOR_DISPERSION`, worth `PRIOR_DAYS` days. The interval
    holds the values of m that a mixture likelihood ratio does not exclude: with a normal distribution of m
    around the value under test it is a martingale, and by Ville's inequality exceeds 1 / alpha at any time
    with probability of at most alpha. Robbins, Ann. Math. Stat. 1970 (known variance); Lai, Ann. Stat. 1976
    and Wang and Ramdas, arXiv:2310.03722 (unknown variance, without information on f); the paired use for
    probabilities follows Henzi and Ziegel, Biometrika 2022, and Choe and Ramdas, Operations Research 2023.

    Args:
        days: one entry per matured day.
        alpha: probability that the interval ever misses m.
    """
    rows, buyers = sum(day.rows for day in days), sum(day.buyers for day in days)
    champion_loss = sum(day.champion_loss for day in days) / rows if rows else None
    blocks = [block for block in join_small_days(days) if block.variance > 0]
    if not blocks:
        return PairedComparison(len(days), rows, buyers, None, None, champion_loss)
    values = np.array([block.total / block.rows for block in blocks])
    precision = np.array([block.rows**2 / block.variance for block in blocks])
    mean, half_width = _mixture_interval(values, precision, alpha)
    interval = (mean - half_width, mean + half_width)
    deviations = float((precision * (values - mean) ** 2).sum())
    dispersion = deviations / (len(values) - 1) if len(values) > 1 else None
    return PairedComparison(len(days), rows, buyers, mean, interval, champion_loss, dispersion)


def join_small_days(days: Iterable[DayDifference]) -> list[DayDifference]:
    """Successive days joined until `MIN_EXPECTED_BUYERS` are expected; a rest below that is left out.

    Whether a block is complete depends on probabilities alone, so it is known before the outcomes.
    """
    blocks: list[DayDifference] = []
    block: DayDifference | None = None
    for day in days:
        block = day if block is None else block + day
        if block.expected_buyers >= MIN_EXPECTED_BUYERS:
            blocks.append(block)
            block = None
    return blocks


def _mixture_interval(values: FloatArray, precision: FloatArray, alpha: float) -> tuple[float, float]:
    """Precision-weighted mean and half width of the interval of `compare`; infinite while all is possible."""
    total_precision = float(precision.sum())
    mean = float((precision * values).sum() / total_precision)
    spread = PRIOR_DAYS * PRIOR_DISPERSION + float((precision * (values - mean) ** 2).sum())
    information = 1 + EFFECT_SCALE**2 * total_precision / float(precision[0])
    limit = (math.sqrt(information) / alpha) ** (2 / (PRIOR_DAYS + len(values)))
    if limit >= information:
        return mean, math.inf
    return mean, math.sqrt((limit - 1) * spread / (total_precision * (1 - limit / information)))
