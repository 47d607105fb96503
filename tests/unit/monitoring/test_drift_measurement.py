"""Which midnights drift compares: none after announced, closed or missing days."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from retail_core.monitoring.drift_measurement import SkippedDays, midnight_windows, usable_midnights

NEWEST = datetime(2025, 5, 31, tzinfo=UTC)
NOTHING = SkippedDays(frozenset(), (), ())


def day_numbers(windows: list[list[datetime]]) -> list[list[int]]:
    return [[midnight.day for midnight in window] for window in windows]


def test_without_special_days_the_newest_midnights_are_compared() -> None:
    assert day_numbers(midnight_windows(NEWEST, 2, "UTC", NOTHING)) == [[26, 27, 28], [29, 30, 31]]


def test_midnights_after_a_holiday_or_a_single_outage_are_replaced_by_earlier_ones() -> None:
    skipped = SkippedDays(frozenset({date(2025, 5, 29)}), (date(2025, 5, 26),), ())
    assert day_numbers(midnight_windows(NEWEST, 2, "UTC", skipped)) == [[24, 25, 26], [28, 29, 31]]
    assert skipped.recent_gaps(NEWEST, "UTC") == [date(2025, 5, 26)]


def test_midnights_after_closed_weekdays_are_left_out() -> None:
    sundays = SkippedDays(frozenset(), (), (6,))
    first = NEWEST - timedelta(days=13)
    midnights = usable_midnights(first, NEWEST, "UTC", sundays)
    assert [midnight.weekday() for midnight in midnights].count(0) == 0
    assert len(midnights) == 12


def test_only_whole_windows_are_compared() -> None:
    skipped = SkippedDays(frozenset(date(2025, 5, day) for day in range(1, 29)), (), ())
    assert day_numbers(midnight_windows(NEWEST, 2, "UTC", skipped)) == []
    skipped = SkippedDays(frozenset(date(2025, 5, day) for day in range(1, 27)), (), ())
    assert day_numbers(midnight_windows(NEWEST, 2, "UTC", skipped)) == [[29, 30, 31]]
