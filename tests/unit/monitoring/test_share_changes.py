"""Falls and rises of shares, and their probabilities in quiet data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retail_core.arrays import FloatArray
from retail_core.monitoring.share_changes import ShareSeries, compare_window

DAYS = 42
WEEKDAYS = np.arange(DAYS) % 7


def series(hits: FloatArray, trials: float = 200.0) -> ShareSeries:
    rows = np.atleast_2d(hits)
    return ShareSeries(np.full(rows.shape, trials), rows, WEEKDAYS)


def test_a_share_that_ends_is_a_fall_and_one_that_begins_a_rise() -> None:
    ended, begun = np.full(DAYS, 50.0), np.zeros(DAYS)
    ended[-3:], begun[-3:] = 0, 50
    window = compare_window(series(np.array([ended, begun])), 3, 0.05, 0.05)
    assert window.expected.tolist() == [150.0, 0.0]
    assert window.now.tolist() == [0.0, 0.25]
    assert window.log_fall[0] < -50
    assert window.log_rise[1] < -50
    assert window.log_fall[1] == window.log_rise[0] == 0


def test_fewer_trials_are_no_fall() -> None:
    """A bank holiday: hardly anybody comes, with the same shares."""
    trials, hits = np.full((1, DAYS), 200.0), np.full((1, DAYS), 50.0)
    trials[0, -1], hits[0, -1] = 8, 2
    window = compare_window(ShareSeries(trials, hits, WEEKDAYS), 1, 0.05, 0.05)
    assert window.log_fall[0] == 0


def test_a_weekly_rhythm_is_expected() -> None:
    """A type that never comes on Saturdays and Sundays."""
    hits = np.where(WEEKDAYS < 5, 40.0, 0.0)
    window = compare_window(series(hits), 2, 0.05, 0.05)
    assert WEEKDAYS[-2:].tolist() == [5, 6]
    assert window.expected[0] == 0
    assert window.usual_days[0] == 0


def test_a_bursty_share_needs_more_to_be_a_fall() -> None:
    generator = np.random.default_rng(0)
    steady, bursty = generator.binomial(200, 0.2, DAYS), generator.choice([5.0, 75.0], DAYS)
    hits = np.array([steady, bursty], dtype=np.float64)
    hits[:, -3:] = 0
    window = compare_window(series(hits), 3, 0.05, 0.05)
    assert window.log_fall[0] < 3 * window.log_fall[1]


def test_a_short_past_is_less_certain() -> None:
    hits = np.full(DAYS, 20.0)
    hits[-1] = 0
    long, short = series(hits), series(hits)
    short = ShareSeries(short.trials[:, -15:], short.hits[:, -15:], WEEKDAYS[-15:])
    assert compare_window(long, 1, 0.05, None).log_fall[0] < compare_window(short, 1, 0.05, None).log_fall[0]


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_probabilities_of_falls_are_not_too_small_in_quiet_data(share: float) -> None:
    """Of 4,000 quiet series at most about one in a hundred has a probability below 1 %."""
    generator = np.random.default_rng(1)
    hits = generator.binomial(200, share, (4_000, DAYS)).astype(np.float64)
    window = compare_window(series(hits), 2, 1.0, None)
    below = (window.log_fall < math.log(0.01)).mean()
    assert below <= 0.012
