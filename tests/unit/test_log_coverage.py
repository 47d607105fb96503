"""Days of the log, outlier timestamps, regular closures and gaps."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from retail_core.log_coverage import closed_weekdays, covered_days, last_covered_day, overlaps_gap

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
