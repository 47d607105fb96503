"""What of a calendar was known when, across imports that replace each other."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from retail_core.sources.calendar_file import AnnouncedDay, DayKind
from retail_core.store.mongo.shop_calendar import kinds_by_day, replaced_days

FIRST = datetime(2025, 11, 1, tzinfo=UTC)
SECOND = datetime(2025, 11, 10, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)
FRIDAY, SATURDAY = date(2025, 11, 28), date(2025, 11, 29)
SALE = AnnouncedDay(FRIDAY, DayKind.PROMOTION)


def test_a_day_is_known_from_its_announcement_on() -> None:
    days = replaced_days([], [SALE], FIRST)
    assert kinds_by_day(days, FIRST - MOMENT) == {}
    assert kinds_by_day(days, FIRST) == kinds_by_day(days) == {FRIDAY: DayKind.PROMOTION}


def test_an_earlier_announcement_can_be_stated() -> None:
    stated = AnnouncedDay(FRIDAY, DayKind.PROMOTION, announced_at=FIRST - timedelta(days=30))
    days = replaced_days(replaced_days([], [SALE], FIRST), [stated], SECOND)
    assert kinds_by_day(days, FIRST - MOMENT) == {FRIDAY: DayKind.PROMOTION}


def test_the_same_import_again_changes_nothing() -> None:
    days = replaced_days([], [SALE], FIRST)
    assert replaced_days(days, [SALE], SECOND) == days


def test_an_import_replaces_and_the_past_stays_known() -> None:
    days = replaced_days([], [SALE], FIRST)
    days = replaced_days(days, [AnnouncedDay(SATURDAY, DayKind.CLOSED)], SECOND)
    assert kinds_by_day(days) == {SATURDAY: DayKind.CLOSED}
    assert kinds_by_day(days, SECOND - MOMENT) == {FRIDAY: DayKind.PROMOTION}
    again = replaced_days(days, [SALE], SECOND + MOMENT)
    assert kinds_by_day(again) == {FRIDAY: DayKind.PROMOTION}
    assert kinds_by_day(again, SECOND) == {SATURDAY: DayKind.CLOSED}


def test_a_changed_kind_counts_from_the_change_on() -> None:
    days = replaced_days([], [SALE], FIRST)
    days = replaced_days(days, [AnnouncedDay(FRIDAY, DayKind.CLOSED)], SECOND)
    assert kinds_by_day(days, SECOND - MOMENT) == {FRIDAY: DayKind.PROMOTION}
    assert kinds_by_day(days, SECOND) == {FRIDAY: DayKind.CLOSED}
