"""The newest days on which buyers come at one level, and calibrators adjusted to that level.

Separate from `calibration`, which fits maps without regard to time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.calibration import Calibrator, expit, fit_calibrator, logit

CHANGE_Z = 2.0
"""Standard errors between the levels before and after a day that count as a change.

Low, since a change that is missed costs more than one that is imagined: simulated with 20 buyers a day for
21 days, a fall of the odds to 0.4 three days ago leaves promised 4 % too high on average (28 % with 3.0),
and in quiet shops the standard deviation of promised to observed is 14 % (8 % with 3.0).
"""
REFIT_BUYERS = 200
"""Buyers from which on the whole map is fitted to them; with fewer, its shape stays and it is shifted."""
_MAX_SHIFT = 12.0
_MEDIAN_OF_CHI2 = 0.4549
"""Median of the square of a standard normal variable."""


def days_since_change(promised: FloatArray, observed: FloatArray) -> int:
    """Number of newest days after the last change of the ratio of observed to promised buyers.

    The day with the most significant difference between the ratios before and after it is taken for a change
    if the log ratios differ by `CHANGE_Z` standard errors; the search goes on in the days after it (binary
    segmentation, Scott & Knott 1974). The variance of a day's buyers is Poisson's, times the overdispersion
    between successive days.

    Args:
        promised: sum of the probabilities of each day, oldest first, positive.
        observed: buyers of each day.

    Examples:
        >>> import numpy as np
        >>> days_since_change(np.full(12, 50.0), np.array([50.0] * 8 + [20.0] * 4))
        4
        >>> days_since_change(np.full(12, 50.0), np.full(12, 20.0))
        12
    """
    dispersion = _overdispersion(promised, observed)
    first = 0
    while len(promised) - first > 1:
        scores = _split_scores(promised[first:], observed[first:]) / np.sqrt(dispersion)
        if scores.max() < CHANGE_Z:
            break
        first += int(scores.argmax()) + 1
    return len(promised) - first


def _split_scores(promised: FloatArray, observed: FloatArray) -> FloatArray:
    """For a change after each day but the last: standard errors between the log ratios on both sides."""
    before, after = np.cumsum(observed)[:-1], np.cumsum(observed[::-1])[::-1][1:]
    promised_before, promised_after = np.cumsum(promised)[:-1], np.cumsum(promised[::-1])[::-1][1:]
    # Half a buyer on each side keeps the logarithm finite on days without buyers.
    before, after = before + 0.5, after + 0.5
    difference = np.log(after / promised_after) - np.log(before / promised_before)
    return np.asarray(np.abs(difference) / np.sqrt(1 / before + 1 / after))


def _overdispersion(promised: FloatArray, observed: FloatArray) -> float:
    """Variance of the log ratios of successive days relative to Poisson's, at least 1.

    Differences of successive days are hardly affected by changes of the level.
    """
    if len(promised) < 2:
        return 1.0
    counts = observed + 0.5
    steps = np.diff(np.log(counts / promised))
    variances = 1 / counts[1:] + 1 / counts[:-1]
    return max(1.0, float(np.median(steps**2 / variances)) / _MEDIAN_OF_CHI2)


def on_newest_level(probability: FloatArray, labels: BoolArray, days: pd.Series) -> BoolArray:
    """Mask of the rows of the newest days at one level, see `days_since_change`.

    Args:
        probability: promised for each row.
        labels: whether each bought.
        days: day of each row; sorts in order of time.
    """
    frame = pd.DataFrame({"promised": probability, "observed": labels.astype(float)})
    by_day = frame.groupby(days.to_numpy(), sort=True).sum()
    count = days_since_change(by_day["promised"].to_numpy(float), by_day["observed"].to_numpy(float))
    return np.asarray(days.isin(by_day.index[-count:]), dtype=bool)


def calibrate_to_newest_level(
    calibrator: Calibrator, raw: FloatArray, labels: BoolArray, days: pd.Series
) -> Calibrator:
    """A calibrator whose probabilities sum to the buyers of the newest days at one level.

    With `REFIT_BUYERS` buyers on these days the map is fitted to them; with fewer it is `calibrator`, shifted
    on the scale of log odds.

    Args:
        calibrator: the present map.
        raw: prior-corrected scores of matured rows, not used to fit the ranker.
        labels: whether each bought.
        days: day of each row; sorts in order of time.
    """
    newest = on_newest_level(calibrator(raw), labels, days)
    buyers = int(labels[newest].sum())
    if buyers >= REFIT_BUYERS:
        return fit_calibrator(raw[newest], labels[newest])
    shift = _shift_to(logit(calibrator(raw[newest])), max(buyers, 0.5))
    return replace(calibrator, values=calibrator.values + shift)


def _shift_to(log_odds: FloatArray, buyers: float) -> float:
    """The constant that added to the log odds makes the probabilities sum to `buyers`."""

    def excess(shift: float) -> float:
        return float(expit(log_odds + shift).sum()) - buyers

    if excess(-_MAX_SHIFT) >= 0 or excess(_MAX_SHIFT) <= 0:
        return 0.0
    return float(brentq(excess, -_MAX_SHIFT, _MAX_SHIFT))
