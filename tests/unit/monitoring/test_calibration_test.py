"""The sequential test of promised against observed buyers: false alarms, power, and its parts."""

from __future__ import annotations

import numpy as np
import pytest

from retail_core.monitoring.calibration_test import (
    E_LIMIT,
    CalibrationNull,
    PromisedDays,
    calibration_evidence,
    estimate_overdispersion,
    observed_deviation,
    smallest_detectable_fall,
    start_log_e_values,
)

NULL = CalibrationNull(tolerance=0.1, reference_buyers=1_000, overdispersion=0.005)
WINDOW = 28


def shops(
    ratio: float, *, shops: int, days: int, promised: float = 33.0, day_effect: float = 0.07, seed: int = 1
) -> PromisedDays:
    """Independent shops whose probabilities are all 0.17; `ratio` of the promised buyers come."""
    rng = np.random.default_rng(seed)
    trials = np.full((shops, days), round(promised / 0.17))
    rate = np.clip(0.17 * ratio * rng.normal(1, day_effect, (shops, days)), 0, 1)
    expected = trials * 0.17
    return PromisedDays(expected, expected * 0.17, rng.binomial(trials, rate))


def alarms(days: PromisedDays, null: CalibrationNull = NULL) -> int:
    """Number of shops that fire on any day, inspected daily."""
    fired = np.zeros(len(days.promised), dtype=bool)
    for end in range(2, days.promised.shape[1] + 1):
        part = slice(max(0, end - WINDOW), end)
        newest = PromisedDays(days.promised[:, part], days.squares[:, part], days.observed[:, part])
        fired |= np.exp(start_log_e_values(newest, null)).sum(axis=1) >= E_LIMIT
    return int(fired.sum())


def test_daily_inspection_of_calibrated_shops_for_ten_shop_years_raises_at_most_one_alarm() -> None:
    assert alarms(shops(1.0, shops=60, days=60)) <= 1


@pytest.mark.parametrize("ratio", [0.95, 1.05])
def test_a_deviation_within_the_tolerance_raises_few_alarms(ratio: float) -> None:
    assert alarms(shops(ratio, shops=60, days=40)) <= 4


def test_odds_cut_to_0_4_are_found_within_three_days_and_to_0_6_within_seven() -> None:
    quiet = shops(1.0, shops=100, days=25)
    for ratio, days in ((0.43, 3), (0.6, 7)):
        after = shops(ratio, shops=100, days=days, seed=2)
        joined = PromisedDays(
            *(
                np.concatenate([getattr(quiet, name), getattr(after, name)], axis=1)
                for name in ("promised", "squares", "observed")
            )
        )
        assert alarms(joined) >= 90


def test_more_buyers_than_promised_are_found_too() -> None:
    assert alarms(shops(1.6, shops=20, days=7)) == 20


def test_the_start_of_the_change_and_its_size_are_reported() -> None:
    observed = np.array([30, 31, 29, 30, 30, 15, 14, 16, 15])
    days = PromisedDays(np.full(9, 30.0), np.full(9, 5.0), observed)
    evidence = calibration_evidence(days, NULL)
    assert evidence.start == 5
    assert evidence.deviation == pytest.approx(-0.5)
    low, high = evidence.interval
    assert -0.65 < low < -0.5 < high < -0.3


def test_an_uncertain_reference_weakens_the_evidence() -> None:
    days = PromisedDays(np.full(14, 30.0), np.full(14, 5.0), np.full(14, 23))
    certain = calibration_evidence(days, NULL).e_value
    uncertain = calibration_evidence(days, CalibrationNull(0.1, 60, 0.005)).e_value
    assert uncertain < certain / 2
    assert observed_deviation(days, NULL)[0] == pytest.approx(23 / 30 - 1)


def test_day_to_day_variation_is_estimated_also_across_a_lasting_change() -> None:
    steady = shops(1.0, shops=1, days=400, day_effect=0.2)
    halved = PromisedDays(steady.promised, steady.squares, steady.observed // np.array([1] * 200 + [2] * 200))
    assert estimate_overdispersion(steady)[0] == pytest.approx(0.04, rel=0.3)
    assert estimate_overdispersion(halved)[0] < 0.08
    one_day = PromisedDays(np.array([30.0]), np.array([5.0]), np.array([30]))
    assert 0 < estimate_overdispersion(one_day) < 0.05


def test_the_smallest_detectable_fall_shrinks_with_the_number_of_buyers() -> None:
    falls = [
        smallest_detectable_fall(PromisedDays(np.array([n]), np.array([n / 6]), np.array([0])), 7, NULL)
        for n in (2.0, 30.0, 300.0)
    ]
    assert falls[1] is not None
    assert falls[2] is not None
    assert (falls[0] or 1.0) > falls[1] > falls[2] > 0.1


def test_the_mean_e_value_of_unchanged_shops_is_at_most_one() -> None:
    days = shops(1.0, shops=4_000, days=5, day_effect=0.0)
    exact = CalibrationNull(tolerance=0.1, reference_buyers=1e6, overdispersion=1e-9)
    mean = np.exp(start_log_e_values(days, exact)).mean(axis=0)
    assert (mean < 1.05).all()
