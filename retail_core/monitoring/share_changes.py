"""Whether a share fell or rose between past days and the newest ones, allowing for overdispersion.

Each share (of active users who have an event type, of a field that is filled) is a row of a matrix with one
column per day. A window of newest days is compared with the days before it by the posterior predictive
distribution of a beta-binomial: the past days give Beta(x + 1/2, n - x + 1/2), and the tail probability of
the window follows from it, so that a short past widens it. Both counts are divided by the overdispersion of
the past days (quasi-likelihood: McCullagh & Nelder, Generalized Linear Models, 1989, section 4.5), of which
the upper 80 % confidence bound is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from retail_core.arrays import BoolArray, FloatArray, IntArray

REFERENCE_DAYS = 28
MIN_REFERENCE_DAYS = 14
WINDOWS = (1, 2, 3, 4, 5, 7, 10, 14)
"""Numbers of newest days that are compared with the days before them."""

MIN_EXPECTED = 5.0
"""Smallest expected count of a window, after division by the overdispersion, of which a fall is tested."""

NEW_DISPERSION = 2.0
"""Overdispersion of what never occurred, where the past cannot show it."""

_DISPERSION_TAIL = 0.2
_MIN_VARIANCE = 1e-9
_MIN_SAME_WEEKDAY = 4
_MAX_TRIALS = 2_000
"""Larger effective numbers of trials are scaled down: they add nothing to a decision, but time."""


@dataclass(frozen=True)
class ShareSeries:
    """Counts by day of several shares.

    Attributes:
        trials: shape (shares, days); users, for example, who could have had the event type.
        hits: shape (shares, days); those of them who had it. Not necessarily whole numbers.
        weekdays: shape (days,); 0 = Monday.
    """

    trials: FloatArray
    hits: FloatArray
    weekdays: IntArray

    def __len__(self) -> int:
        return len(self.trials)


@dataclass(frozen=True)
class WindowComparison:
    """Shares of one window of newest days against the days before it; all arrays have shape (shares,).

    Attributes:
        days: length of the window.
        expected: hits of the window that the past days lead to expect.
        observed: hits of the window.
        past: share of the past days.
        now: share of the window.
        usual_days: days of the window on which hits are expected.
        log_fall: natural logarithm of the probability of at most `observed` hits; 0 where not tested.
        log_rise: of at least `observed` hits; 0 where not tested.
    """

    days: int
    expected: FloatArray
    observed: FloatArray
    past: FloatArray
    now: FloatArray
    usual_days: IntArray
    log_fall: FloatArray
    log_rise: FloatArray


def compare_window(series: ShareSeries, days: int, fall: float, rise: float | None) -> WindowComparison:
    """Compare the newest `days` days with up to `REFERENCE_DAYS` before them.

    Args:
        series: at least `days` + `MIN_REFERENCE_DAYS` days.
        days: length of the window.
        fall: test those whose observed hits are at most this share of the expected ones.
        rise: test those whose past share is at most this share of the present one; None tests none.
    """
    past = slice(max(0, series.trials.shape[1] - days - REFERENCE_DAYS), series.trials.shape[1] - days)
    reference = ShareSeries(series.trials[:, past], series.hits[:, past], series.weekdays[past])
    trials, hits = series.trials[:, -days:], series.hits[:, -days:]
    usual = _usual_shares(reference)[:, series.weekdays[-days:]]
    expected, observed, total = (usual * trials).sum(1), hits.sum(1), trials.sum(1)
    past_trials, past_hits = reference.trials.sum(1), reference.hits.sum(1)
    past_share, now = _ratio(past_hits, past_trials), _ratio(observed, total)
    log_fall, log_rise = np.zeros(len(series)), np.zeros(len(series))
    for row in map(int, np.flatnonzero((observed <= fall * expected) & (expected >= MIN_EXPECTED))):
        dispersion = _dispersion(reference, row)
        if expected[row] >= MIN_EXPECTED * dispersion:
            share = expected[row] / total[row]
            log_fall[row] = _log_tail(
                (observed[row], total[row]), (share * past_trials[row], past_trials[row]), dispersion
            )
    if rise is not None:
        is_new = (past_share <= rise * now) & (observed >= MIN_EXPECTED) & (past_trials > 0)
        for row in map(int, np.flatnonzero(is_new)):
            log_rise[row] = _log_tail(
                (total[row] - observed[row], total[row]),
                (past_trials[row] - past_hits[row], past_trials[row]),
                max(_dispersion(reference, row), NEW_DISPERSION),
            )
    usual_days = ((usual > 0) & (trials > 0)).sum(1)
    return WindowComparison(days, expected, observed, past_share, now, usual_days, log_fall, log_rise)


def _ratio(hits: FloatArray, trials: FloatArray) -> FloatArray:
    return np.divide(hits, trials, out=np.zeros_like(hits), where=trials > 0)


def _usual_shares(reference: ShareSeries) -> FloatArray:
    """Share by weekday, shape (shares, 7); of all days where a weekday has fewer than four."""
    overall = _ratio(reference.hits.sum(1), reference.trials.sum(1))[:, None]
    is_weekday = (reference.weekdays[:, None] == np.arange(7)).astype(np.float64)
    hits, trials = reference.hits @ is_weekday, reference.trials @ is_weekday
    has_own = (is_weekday.sum(0) >= _MIN_SAME_WEEKDAY) & (trials > 0)
    usual: FloatArray = np.where(has_own, _ratio(hits, trials), overall)
    return usual


def _dispersion(reference: ShareSeries, row: int) -> float:
    """Upper 80 % bound of variance over binomial variance of one share in the past days, at least 1."""
    share = ShareSeries(reference.trials[[row]], reference.hits[[row]], reference.weekdays)
    usual = np.minimum(_usual_shares(share)[0, share.weekdays], 1.0)
    expected = usual * share.trials[0]
    variance = expected * (1 - usual)
    is_random: BoolArray = variance > _MIN_VARIANCE
    counts = np.bincount(share.weekdays, minlength=7)
    degrees = int(is_random.sum()) - max(1, int((counts >= _MIN_SAME_WEEKDAY).sum()))
    if degrees <= 0:
        return 1.0
    squares = ((share.hits[0] - expected)[is_random] ** 2 / variance[is_random]).sum()
    return max(1.0, float(squares / stats.chi2.ppf(_DISPERSION_TAIL, degrees)))


def _log_tail(counts: tuple[float, float], past: tuple[float, float], dispersion: float) -> float:
    """Logarithm of the predictive probability of at most `hits` among `trials`, both pairs (hits, trials)."""
    (hits, trials), (past_hits, past_trials) = counts, past
    scale = max(dispersion, trials / _MAX_TRIALS)
    alpha, beta = past_hits / dispersion + 0.5, (past_trials - past_hits) / dispersion + 0.5
    n = int(trials / scale)
    log_tail = stats.betabinom.logcdf(min(n, math.ceil(hits / scale)), n, alpha, max(beta, 0.5))
    return float(min(0.0, log_tail))
