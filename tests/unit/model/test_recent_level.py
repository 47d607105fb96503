"""The newest days at one level of buying, and calibration to that level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.calibration import Calibrator, expit, fit_calibrator, logit
from retail_core.model.recent_level import calibrate_to_newest_level, days_since_change

DAYS, USERS, SHOPS = 21, 700, 20
IDENTITY = Calibrator("sigmoid", np.array([-40.0, 40.0]), np.array([-40.0, 40.0]))


def simulated_shop(seed: int, odds: FloatArray) -> tuple[FloatArray, BoolArray, pd.Series]:
    """Scores, labels and days of a shop whose odds of buying are multiplied by `odds` on each day."""
    rng = np.random.default_rng(seed)
    days = np.repeat(np.arange(DAYS), USERS)
    score = expit(rng.normal(-4.0, 1.2, len(days)))
    noise = rng.normal(0.0, 0.1, DAYS)
    labels = rng.random(len(days)) < expit(logit(score) + np.log(odds[days]) + noise[days])
    return score, labels, pd.Series(days)


@pytest.mark.parametrize("days_after", [3, 7, 14])
def test_promised_equals_observed_within_ten_percent_after_the_odds_fell(days_after: int) -> None:
    odds = np.where(np.arange(DAYS) < DAYS - days_after, 1.0, 0.4)
    promised = expected = unadjusted = 0.0
    for seed in range(SHOPS):
        score, labels, days = simulated_shop(seed, odds)
        calibrator = calibrate_to_newest_level(IDENTITY, score, labels, days)
        future = expit(np.random.default_rng(seed + 100).normal(-4.0, 1.2, 5_000))
        promised += calibrator(future).sum()
        unadjusted += fit_calibrator(score, labels)(future).sum()
        expected += expit(logit(future) + np.log(0.4)).sum()
    assert promised == pytest.approx(expected, rel=0.1)
    assert unadjusted > 1.15 * expected, "all days pooled promise too much"


def test_days_without_a_change_are_mostly_pooled() -> None:
    quiet = 0
    for seed in range(SHOPS):
        score, labels, days = simulated_shop(seed, np.ones(DAYS))
        observed = pd.Series(labels).groupby(days).sum().to_numpy(float)
        promised = pd.Series(score).groupby(days).sum().to_numpy(float)
        quiet += days_since_change(promised, observed) == DAYS
    assert quiet >= SHOPS / 2


def test_a_change_is_dated_within_two_days() -> None:
    odds = np.where(np.arange(DAYS) < 12, 1.0, 0.4)
    score, labels, days = simulated_shop(3, odds)
    observed = pd.Series(labels).groupby(days).sum().to_numpy(float)
    promised = pd.Series(score).groupby(days).sum().to_numpy(float)
    assert abs(days_since_change(promised, observed) - 9) <= 2


def test_few_buyers_shift_the_map_and_keep_its_shape() -> None:
    score, labels, days = simulated_shop(1, np.ones(DAYS))
    first = (days < 3).to_numpy()
    calibrator = calibrate_to_newest_level(IDENTITY, score[first], labels[first], days[first])
    assert calibrator(score[first]).sum() == pytest.approx(labels[first].sum(), rel=1e-6)
    assert np.ptp(calibrator.values - IDENTITY.values) == pytest.approx(0, abs=1e-9)
    nobody = calibrate_to_newest_level(IDENTITY, score[first], np.zeros(first.sum(), bool), days[first])
    assert 0 < nobody(score[first]).sum() < 1
