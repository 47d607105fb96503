"""Trigger `freshness`: whether the log is late, or goes on with a small part of its events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

from retail_core.log_rhythm import ALARMS_PER_YEAR, MIN_ACTIVE_MINUTES, MIN_DAYS
from retail_core.monitoring.profiles.day_profile import DayProfile
from retail_core.monitoring.trigger_check import Action, TriggerCheck, insufficient
from retail_core.scoring.list_checks import LogLateness
from retail_core.times import iso

FRESHNESS = "freshness"
THIN_DAY = 0.1
"""A day with at most this share of its usual users is thin: most of the log is missing."""

MIN_USUAL_USERS = 30.0
"""Days of shops with fewer usual users are not judged."""

VOLUME_DAYS = 56
_MIN_SAME_WEEKDAY = 3
_MIN_DAYS = 7
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class DayVolume:
    """Active users of one whole day, and the usual number: the median of the same weekday in 8 weeks before.

    `usual` is None where fewer than a week of days lies before it.
    """

    day: date
    users: int
    usual: float | None

    @property
    def is_thin(self) -> bool:
        """Whether most of the day is missing."""
        return (
            self.usual is not None and self.usual >= MIN_USUAL_USERS and self.users <= THIN_DAY * self.usual
        )


def day_volume(profiles: Sequence[DayProfile], index: int, announced: Collection[date] = ()) -> DayVolume:
    """Volume of the day at `index` of profiles in ascending order, against days that are not announced."""
    profile = profiles[index]
    first = profile.day - _ONE_DAY * VOLUME_DAYS
    past = [entry for entry in profiles[:index] if entry.day >= first and entry.day not in announced]
    same = [entry.users for entry in past if entry.day.weekday() == profile.day.weekday()]
    users = same if len(same) >= _MIN_SAME_WEEKDAY else [entry.users for entry in past]
    usual = float(np.median(users)) if len(past) >= _MIN_DAYS else None
    return DayVolume(profile.day, profile.users, usual)


def thin_days(profiles: Sequence[DayProfile], announced: Collection[date] = ()) -> list[DayVolume]:
    """The run of thin days that ends with the newest whole day, ascending; empty where that day is usual."""
    run: list[DayVolume] = []
    for index in reversed(range(len(profiles))):
        volume = day_volume(profiles, index, announced)
        if profiles[index].day in announced or not volume.is_thin:
            break
        run.append(volume)
    return run[::-1]


def check_freshness(
    lateness: LogLateness | None, at: datetime, thin: Sequence[DayVolume] = ()
) -> TriggerCheck:
    """Whether the silence of the log at `at` is longer than usual; `value` and `limit` are hours.

    Args:
        lateness: silence since the newest event, or since the begin of `thin`; None without events.
        at: instant of the check, aware.
        thin: newest whole days of which most events are missing.
    """
    if lateness is None:
        return insufficient(FRESHNESS, None, Action.ALERT, "there are no events")
    if lateness.silence is None:
        missing = (
            f"a rhythm needs {MIN_DAYS} days with {MIN_ACTIVE_MINUTES} minutes that have an event; the "
            f"newest event is of {iso(lateness.newest)}"
        )
        return insufficient(FRESHNESS, None, Action.ALERT, missing)
    silence = lateness.silence
    since = "newest event"
    if thin:
        since = "begin of days with hardly any events"
    evidence = (
        f"{since} {iso(lateness.newest)}, {silence.hours:,.1f} h before {iso(at)}; silences of more than "
        f"{silence.limit_hours:,.1f} h come {ALARMS_PER_YEAR:g} times a year by the rhythm of the log; about "
        f"{silence.expected_minutes:,.0f} minutes with an event were expected since"
    )
    if thin:
        days = ", ".join(f"{day.day} {day.users:,} users where {day.usual:,.0f} are usual" for day in thin)
        evidence += f"; {days}"
    return TriggerCheck(
        FRESHNESS, silence.is_late, silence.hours, silence.limit_hours, None, Action.ALERT, evidence
    )
