"""Days of the log, outlier timestamps, regular closures and gaps."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from retail_core.log_coverage import (
    DayRhythm,
    classify_silent_days,
    closed_weekdays,
    covered_days,
    is_last_day_complete,
    last_covered_day,
    overlaps_gap,
)

DAY = timedelta(days=1)
MONDAY = date(2025, 1, 6)


def test_outlier_days_at_both_ends_are_not_covered() -> None:
    log = {MONDAY + DAY * n: 500 for n in range(5)}
    outliers = {date(1999, 1, 1): 4, date(2099, 1, 1): 4}
    assert covered_days(log | outliers) == sorted(log)
    assert last_covered_day(log | outliers) == max(log)
    assert covered_days(log | {MONDAY - DAY: 5}) == [MONDAY - DAY, *sorted(log)]
    assert covered_days({}) == []


def test_a_weekday_closes_after_three_weeks_without_events_on_most_of_them() -> None:
    days = [MONDAY + DAY * n for n in range(28)]
    sundays = [day for day in days if day.weekday() == 6]
    assert closed_weekdays(days, sundays) == (6,)
    assert closed_weekdays(days, sundays[:2]) == ()
    assert closed_weekdays(days[:14], sundays[:2]) == ()


@pytest.mark.parametrize(
    ("hours_before_gap", "overlaps"), [(25, False), (24, False), (23, True), (-23, True), (-24, False)]
)
def test_an_interval_overlaps_a_gap_day_of_the_shops_zone(hours_before_gap: int, overlaps: bool) -> None:
    zone_name = "America/New_York"
    start = datetime(2025, 1, 6, tzinfo=ZoneInfo(zone_name)) - timedelta(hours=hours_before_gap)
    assert overlaps_gap(start, start + DAY, zone_name, [MONDAY]) is overlaps


DAYS = [MONDAY + DAY * n for n in range(70)]


def poisson_log(rate: float, seed: int) -> dict[date, int]:
    """Active users of each of `DAYS` of a shop with independent visits; days without any are absent."""
    counts = np.random.default_rng(seed).poisson(rate, len(DAYS))
    return {day: int(count) for day, count in zip(DAYS, counts, strict=True) if count}


@pytest.mark.parametrize("rate", [1.6, 3.0])
def test_quiet_days_of_a_small_shop_are_real(rate: float) -> None:
    """Of 40 logs with some hundred silent days, at most one in twenty is taken for an outage."""
    outages = quiet = 0
    for seed in range(40):
        log = poisson_log(rate, seed)
        days = [day for day in DAYS if min(log) <= day <= max(log)]
        silent_days = classify_silent_days(days, log)
        open_days = [day for day in days if day.weekday() not in silent_days.closed_weekdays]
        silent = [day for day in open_days if day not in log]
        assert sorted([*silent_days.quiet, *silent_days.outages]) == silent
        outages, quiet = outages + len(silent_days.outages), quiet + len(silent_days.quiet)
    assert quiet > 100
    assert outages <= 0.05 * quiet


def test_a_silent_day_of_a_busy_shop_is_an_outage() -> None:
    log = poisson_log(30.0, 1)
    del log[DAYS[30]]
    silent_days = classify_silent_days(DAYS, log)
    assert (silent_days.outages, silent_days.quiet) == ((DAYS[30],), ())


def test_a_week_without_events_is_an_outage_in_a_small_shop_too() -> None:
    log = poisson_log(3.0, 2)
    for day in DAYS[30:37]:
        log.pop(day, None)
    assert set(DAYS[30:37]) <= set(classify_silent_days(DAYS, log).outages)


def test_a_weekday_has_the_rate_of_its_own() -> None:
    """Two users on Saturdays, eighty on other days: a silent Saturday is real, a silent Monday is not."""
    log = {day: 1 + day.day % 3 if day.weekday() == 5 else 78 + day.day % 5 for day in DAYS}
    monday, saturday = DAYS[28], DAYS[40]
    assert (monday.weekday(), saturday.weekday()) == (0, 5)
    del log[monday], log[saturday]
    silent_days = classify_silent_days(DAYS, log)
    assert (silent_days.outages, silent_days.quiet) == ((monday,), (saturday,))


def test_the_setting_decides_without_any_rate() -> None:
    log = poisson_log(30.0, 1)
    del log[DAYS[30]]
    assert classify_silent_days(DAYS, log, "real").quiet == (DAYS[30],)
    small = poisson_log(2.0, 3)
    silent = tuple(day for day in DAYS if day not in small)
    assert classify_silent_days(DAYS, small, "outage").outages == silent


def test_a_regular_closure_is_neither_quiet_nor_an_outage() -> None:
    log = {day: 50 for day in DAYS if day.weekday() != 6}
    silent_days = classify_silent_days(DAYS, log)
    assert silent_days.closed_weekdays == (6,)
    assert not silent_days.outages
    assert not silent_days.quiet


@pytest.mark.parametrize(
    ("earlier_days", "complete"),
    [
        ([], False),
        ([DayRhythm(1000, 12, 9)] * 28, True),  # one in a hundred events comes later
        ([DayRhythm(1000, 300, 90)] * 28, False),
        ([DayRhythm(8, 2, 1)] * 5, True),  # a small shop: one later user a day, silence with 37 %
        ([DayRhythm(90, 30, 9)] * 25 + [DayRhythm(60, 0, 0)] * 3, True),  # closed early on three of 28 days
        ([DayRhythm(90, 30, 9)] * 27 + [DayRhythm(60, 0, 0)], False),
    ],
)
def test_the_last_day_is_complete_where_its_silence_is_usual(
    earlier_days: list[DayRhythm], complete: bool
) -> None:
    assert is_last_day_complete(earlier_days) is complete
