"""The paired test of two models: signs, validity under repeated looks, power, small and odd lists."""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import pytest

from retail_core.arrays import FloatArray
from retail_core.model.calibration import expit, logit
from retail_core.monitoring.paired_comparison import (
    CLIP,
    DayDifference,
    compare,
    day_difference,
    join_small_days,
)

USERS = 1_000


def simulated_days(
    rng: np.random.Generator, days: int, noise: tuple[float, float], shock: float = 0.0
) -> list[DayDifference]:
    """Days of two models whose log odds miss the true ones by noise of the given standard deviations."""
    result = []
    for _ in range(days):
        true = rng.normal(-3.5, 1.0, USERS)
        champion, other = (expit(true + rng.normal(0, sd, USERS)) for sd in noise)
        purchased = rng.random(USERS) < expit(true + rng.normal(0, shock))
        result.append(day_difference(purchased, champion, other))
    return result


def first_decisions(pairs: list[list[DayDifference]]) -> list[tuple[int, bool]]:
    """Day of the first interval without zero and whether the other model is ahead, of pairs with one."""
    decided = []
    for days in pairs:
        for count in range(1, len(days) + 1):
            interval = compare(days[:count]).interval
            if interval is not None and (interval[0] > 0 or interval[1] < 0):
                decided.append((count, interval[0] > 0))
                break
    return decided


def test_the_difference_is_positive_where_the_other_model_is_nearer_to_the_outcomes() -> None:
    purchased = np.array([True, False])
    day = day_difference(purchased, np.array([0.1, 0.2]), np.array([0.4, 0.1]))
    assert day.total == pytest.approx(math.log(0.4 / 0.1) + math.log(0.9 / 0.8))
    assert day.champion_loss == pytest.approx(-math.log(0.1) - math.log(0.8))
    assert (day.rows, day.buyers) == (2, 1)
    assert day.expected_buyers == pytest.approx(0.4)


def test_the_variance_is_that_of_outcomes_drawn_from_the_probabilities() -> None:
    rng = np.random.default_rng(2)
    true = expit(rng.normal(-2, 1, 400))
    champion, other = expit(logit(true) + 0.2), expit(logit(true) - 0.2)
    days = [day_difference(rng.random(400) < true, champion, other) for _ in range(1_000)]
    assert np.var([day.total for day in days]) == pytest.approx(days[0].variance, rel=0.15)


def test_extreme_probabilities_are_clipped() -> None:
    day = day_difference(np.array([True]), np.array([0.0]), np.array([1.0]))
    assert day.total == pytest.approx(math.log((1 - CLIP) / CLIP))


@pytest.mark.parametrize("shock", [0.0, 0.3])
def test_equal_models_are_never_decided_although_every_day_is_looked_at(shock: float) -> None:
    rng = np.random.default_rng(4)
    pairs = [simulated_days(rng, 20, (0.5, 0.5), shock) for _ in range(15)]
    assert not first_decisions(pairs)


def test_a_much_worse_champion_is_found_within_a_week() -> None:
    rng = np.random.default_rng(5)
    decided = first_decisions([simulated_days(rng, 7, (1.5, 0.3)) for _ in range(20)])
    assert len(decided) == 20
    assert all(ahead for _, ahead in decided)


def test_a_worse_challenger_is_behind() -> None:
    decided = first_decisions([simulated_days(np.random.default_rng(6), 20, (0.3, 1.5))])
    assert [ahead for _, ahead in decided] == [False]


def test_the_interval_contains_the_difference_of_equal_models_at_its_level() -> None:
    """At alpha 0.2 the share of runs that ever exclude the truth is bounded by 0.2."""
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(100):
        totals = rng.normal(0, 1.0, 20)
        days = [DayDifference(100, 5, 50.0, total, 1.0, 10.0) for total in totals]
        intervals = [compare(days[:count], alpha=0.2).interval for count in range(1, 21)]
        missed += any(interval is not None and not interval[0] <= 0 <= interval[1] for interval in intervals)
    assert missed / 100 <= 0.2


def test_days_with_few_expected_buyers_are_joined() -> None:
    days = [DayDifference(100, 1, expected, 0.5, 1.0, 3.0) for expected in (8.0, 8.0, 8.0, 30.0, 5.0)]
    assert [block.rows for block in join_small_days(days)] == [300, 100]


def test_without_information_there_is_no_interval() -> None:
    same = day_difference(np.zeros(500, bool), *(np.full(500, 0.1) for _ in range(2)))
    for days in ([], [same]):
        comparison = compare(days)
        assert comparison.interval is None
        assert comparison.difference is None
        assert comparison.dispersion is None
    assert compare([same]).champion_loss == pytest.approx(-math.log(0.9))


def test_the_dispersion_is_that_of_the_standardized_differences() -> None:
    days = [DayDifference(100, 5, 50.0, total, 4.0, 10.0) for total in (-3.0, 3.0)]
    assert compare(days).dispersion == pytest.approx(4.5)


def test_the_interval_narrows_with_days() -> None:
    days = simulated_days(np.random.default_rng(8), 30, (0.5, 0.4))
    widths = [high - low for low, high in (interval_of(list(seen)) for seen in prefixes(days)[5:])]
    assert widths[-1] < widths[0]


def prefixes(days: list[DayDifference]) -> list[list[DayDifference]]:
    return list(accumulate(([day] for day in days), lambda seen, day: seen + day))


def interval_of(days: list[DayDifference]) -> tuple[float, float]:
    interval = compare(days).interval
    assert interval is not None
    return interval


def test_probabilities_of_any_shape_of_list_are_accepted() -> None:
    empty: FloatArray = np.array([])
    day = day_difference(np.array([], bool), empty, empty)
    assert (day.rows, day.total, day.variance) == (0, 0.0, 0.0)
