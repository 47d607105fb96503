"""The sequential test of live F1 against its reference: false alarms, power, and its parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.monitoring.performance_test import (
    E_LIMIT,
    ConfusionDays,
    ReferencePerformance,
    independent_relative_error,
    performance_evidence,
    smallest_detectable_fall,
    start_log_e_values,
)

RECALL, RATE, BASE_RATE = 0.36, 0.026, 0.032
_F1 = 2 * BASE_RATE * RECALL / (BASE_RATE * RECALL + (1 - BASE_RATE) * RATE + BASE_RATE)
REFERENCE = ReferencePerformance("1", _F1, RECALL, RATE, BASE_RATE, relative_error=0.04, design_effect=1.1)
LIMIT, WINDOW = 0.95, 14


def shops(
    fall: float, *, count: int, days: int, buyers: float = 33.0, base_rate: float = BASE_RATE
) -> ConfusionDays:
    """Independent shops whose F1 at the reference base rate is `fall` below the reference, by recall."""
    rng = np.random.default_rng(5)
    f1 = _F1 * (1 - fall)
    recall = f1 * ((1 - BASE_RATE) * RATE + BASE_RATE) / (BASE_RATE * (2 - f1))
    bought = rng.poisson(33.0, (count, days))
    others = rng.poisson(33.0 / base_rate, (count, days))
    return ConfusionDays(
        bought,
        others,
        rng.binomial(bought, recall),
        rng.binomial(others, RATE),
        (REFERENCE,),
        np.zeros(days, dtype=np.int64),
    )


def alarms(days: ConfusionDays) -> int:
    """Number of shops that fire on any day, inspected daily."""
    fired = np.zeros(len(days.buyers), dtype=bool)
    for end in range(1, days.buyers.shape[1] + 1):
        part = slice(max(0, end - WINDOW), end)
        newest = ConfusionDays(
            days.buyers[:, part],
            days.non_buyers[:, part],
            days.true_positives[:, part],
            days.false_positives[:, part],
            days.references,
            days.version[part],
        )
        fired |= np.exp(start_log_e_values(newest, LIMIT)).sum(axis=1) >= E_LIMIT
    return int(fired.sum())


def test_daily_inspection_of_an_unchanged_model_for_a_year_raises_hardly_any_alarm() -> None:
    assert alarms(shops(0.0, count=100, days=365)) <= 2


def test_a_model_exactly_at_the_limit_raises_few_alarms_in_a_year() -> None:
    assert alarms(shops(0.05, count=100, days=365)) <= 10


def test_a_fall_by_forty_percent_is_found_within_two_weeks() -> None:
    assert alarms(shops(0.4, count=100, days=14)) >= 90


def test_a_lower_base_rate_alone_is_no_fall() -> None:
    assert alarms(shops(0.0, count=100, days=60, base_rate=BASE_RATE / 3)) <= 1


def test_the_value_is_f1_at_the_reference_base_rate_divided_by_the_reference() -> None:
    counts = np.array([1_000]), np.array([90_000]), np.array([360]), np.array([2_340])
    days = ConfusionDays(*counts, (REFERENCE,), np.array([0]))
    evidence = performance_evidence(days, LIMIT)
    assert evidence.ratio == pytest.approx(1.0)
    assert evidence.interval[0] < 1.0 < evidence.interval[1]
    assert evidence.e_value < 1


def test_versions_are_compared_each_with_its_own_reference() -> None:
    other = ReferencePerformance("2", 0.5, 0.5, 0.0165, BASE_RATE, relative_error=0.04, design_effect=1.1)
    other = replace(other, f1=other.f1_at(other.recall, other.false_positive_rate))
    days = ConfusionDays(
        buyers=np.array([100, 100]),
        non_buyers=np.array([3_000, 3_000]),
        true_positives=np.array([36, 50]),
        false_positives=np.array([78, 50]),
        references=(REFERENCE, other),
        version=np.array([0, 1]),
    )
    assert performance_evidence(days, LIMIT).ratio == pytest.approx(1.0, abs=0.01)
    swapped = replace(days, version=np.array([1, 0]))
    assert performance_evidence(swapped, LIMIT).ratio != pytest.approx(1.0, abs=0.01)


def test_with_few_buyers_no_start_day_counts() -> None:
    days = ConfusionDays(
        np.array([5, 5]),
        np.array([90, 90]),
        np.array([0, 0]),
        np.array([9, 9]),
        (REFERENCE,),
        np.array([0, 0]),
    )
    assert performance_evidence(days, LIMIT).e_value == 0


@given(st.integers(50, 500), st.integers(2, 50))
def test_more_non_buyers_of_the_same_kind_do_not_change_the_ratio(buyers: int, factor: int) -> None:
    def ratio(multiple: int) -> float:
        found, mistaken = np.array([buyers // 3]), np.array([buyers * multiple])
        others = np.array([20 * buyers * multiple])
        days = ConfusionDays(np.array([buyers]), others, found, mistaken, (REFERENCE,), np.array([0]))
        return performance_evidence(days, LIMIT).ratio

    assert ratio(1) == pytest.approx(ratio(factor))


def test_the_relative_error_agrees_with_simulated_test_periods() -> None:
    rng = np.random.default_rng(3)
    buyers, others = 300, 9_000
    recall, rate = rng.binomial(buyers, RECALL, 4_000) / buyers, rng.binomial(others, RATE, 4_000) / others
    simulated = np.std([REFERENCE.f1_at(r, f) for r, f in zip(recall, rate, strict=True)]) / _F1
    assert independent_relative_error(REFERENCE, buyers, others) == pytest.approx(simulated, rel=0.05)


def test_the_smallest_detectable_fall_shrinks_with_the_number_of_buyers() -> None:
    falls = [smallest_detectable_fall(n, n / BASE_RATE, REFERENCE, LIMIT) for n in (50.0, 500.0, 5_000.0)]
    assert falls[1] is not None
    assert falls[2] is not None
    assert (falls[0] or 1.0) > falls[1] > falls[2] > 0.05
