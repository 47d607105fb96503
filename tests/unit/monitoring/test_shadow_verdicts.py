"""Verdicts on matured days, and which days count."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from retail_core.features.prediction_task import PredictionTask
from retail_core.monitoring.paired_comparison import DayDifference
from retail_core.monitoring.shadow_days import ShadowDay, Window, comparison_windows
from retail_core.monitoring.shadow_verdicts import judge
from retail_core.registry.shadow_record import Role, Verdict

FIRST = date(2025, 2, 1)
TASK = PredictionTask(timezone="Europe/Berlin")


def days(count: int, difference: float) -> list[ShadowDay]:
    """Days of 1,000 users whose mean log loss of 0.1 differs by that much, with a small variance."""
    day = DayDifference(1_000, 40, 40.0, 1_000 * difference, 1.0, 100.0)
    return [ShadowDay(FIRST + timedelta(days=number), day, "") for number in range(count)]


@pytest.mark.parametrize(
    ("role", "difference", "verdict"),
    [
        (Role.CHALLENGER, 0.0, None),
        (Role.CHALLENGER, 0.02, Verdict.PROMOTED),
        (Role.CHALLENGER, -0.02, Verdict.BEHIND),
        (Role.PREVIOUS, 0.02, Verdict.ROLLED_BACK),
        (Role.PREVIOUS, 0.0015, None),
        (Role.PREVIOUS, -0.02, Verdict.BEHIND),
    ],
)
def test_the_verdict_follows_the_interval(role: Role, difference: float, verdict: Verdict | None) -> None:
    judgement = judge(role, days(40, difference), max_days=60, until=FIRST + timedelta(days=41))
    assert judgement.verdict == verdict


def test_a_difference_too_small_to_roll_back_promotes_a_challenger() -> None:
    promoted = judge(Role.CHALLENGER, days(40, 0.0015), max_days=60, until=FIRST + timedelta(days=41))
    assert promoted.verdict == Verdict.PROMOTED


@pytest.mark.parametrize(("count", "later"), [(60, 60), (3, 61)])
def test_without_a_difference_it_ends_after_the_days(count: int, later: int) -> None:
    judgement = judge(Role.CHALLENGER, days(count, 0.0), max_days=60, until=FIRST + timedelta(days=later))
    assert judgement.verdict == Verdict.UNDECIDED


def test_without_days_it_goes_on() -> None:
    judgement = judge(Role.PREVIOUS, [], max_days=60, until=FIRST)
    assert judgement.verdict is None
    assert judgement.decision.startswith("insufficient data")


def window(day: int, hour: int) -> Window:
    return Window(datetime(2025, 2, day, hour, tzinfo=UTC), f"{day}-{hour}")


@pytest.mark.parametrize(
    ("hours", "expected"), [(24, ["1-5", "2-5", "3-5"]), (25, ["1-5", "3-5"]), (72, ["1-5"])]
)
def test_the_first_list_of_a_day_counts_and_no_horizons_overlap(hours: int, expected: list[str]) -> None:
    windows = [window(1, 5), window(1, 9), window(2, 5), window(3, 5)]
    task = PredictionTask(horizon_hours=hours, timezone="Europe/Berlin")
    compared = comparison_windows(windows, task, pooled=False)
    assert [entry.runs for _, of_day in compared for entry in of_day] == expected


def test_first_visits_of_a_local_day_are_pooled() -> None:
    windows = [window(1, 5), window(1, 22), window(1, 23), window(2, 5)]
    compared = comparison_windows(windows, TASK, pooled=True)
    assert [(day.day, len(of_day)) for day, of_day in compared] == [(1, 2), (2, 2)]


def test_a_day_is_stored_and_read() -> None:
    [day] = days(1, 0.01)
    assert ShadowDay.from_document(day.to_document()) == day
