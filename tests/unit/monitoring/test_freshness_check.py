"""The trigger `freshness`, and days of which most events are missing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from retail_core.log_rhythm import Lateness
from retail_core.monitoring.data_check import volume_findings
from retail_core.monitoring.freshness_check import check_freshness, day_volume, thin_days
from retail_core.monitoring.profiles.day_profile import DayProfile
from retail_core.monitoring.trigger_check import Action
from retail_core.scoring.list_checks import LogLateness

FIRST = date(2025, 1, 6)
NEWEST = datetime(2025, 2, 3, 22, tzinfo=UTC)


def profiles_of(users: list[int]) -> list[DayProfile]:
    return [DayProfile(FIRST + timedelta(days=n), 3 * count, count) for n, count in enumerate(users)]


def test_the_check_gives_hours_and_limit() -> None:
    late = check_freshness(LogLateness(NEWEST, Lateness(30.0, 12.0, 300.0)), NEWEST + timedelta(hours=30))
    assert (late.fired, late.value, late.limit, late.action) == (True, 30.0, 12.0, Action.ALERT)
    assert "newest event 2025-02-03T22:00:00Z, 30.0 h before" in late.evidence
    assert not check_freshness(LogLateness(NEWEST, Lateness(11.0, 12.0, 90.0)), NEWEST).fired


def test_without_a_past_it_says_what_is_missing() -> None:
    for lateness, missing in ((None, "there are no events"), (LogLateness(NEWEST, None), "14 days")):
        check = check_freshness(lateness, NEWEST)
        assert (check.fired, check.value) == (False, None)
        assert check.evidence.startswith("insufficient data: ")
        assert missing in check.evidence


def test_days_with_hardly_any_users_are_thin() -> None:
    week = [400, 420, 410, 430, 440, 200, 190]
    profiles = profiles_of([*week * 4, 50, 2, 3])
    assert [volume.day.day for volume in thin_days(profiles)] == [4, 5]
    assert [volume.usual for volume in thin_days(profiles)] == [420.0, 410.0]
    assert thin_days(profiles_of([*week * 4, 45])) == []


def test_a_quiet_weekday_and_an_announced_day_are_not_thin() -> None:
    closed_on_sundays = [400, 420, 410, 430, 440, 200, 3]
    assert thin_days(profiles_of(closed_on_sundays * 4)) == []
    profiles = profiles_of([400] * 28 + [3])
    assert thin_days(profiles, announced={profiles[-1].day}) == []
    assert thin_days(profiles_of([12] * 28 + [0])) == []


def test_an_unusual_volume_is_a_finding() -> None:
    usual = [100, 110, 105, 95, 90, 60, 70] * 5
    for users, words in ((40, ["fewer"]), (250, ["more"]), (90, [])):
        profiles = profiles_of([*usual, users])
        findings = volume_findings(day_volume(profiles, 35), profiles[:35], ())
        assert [
            word for finding in findings for word in ("fewer", "more") if f", {word} than" in finding
        ] == words
