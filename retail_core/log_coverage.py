"""Which days a log covers, whatever a few wrong clocks say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

_STRAY_SHARE = 0.01
"""A day with less than this share of a typical day's events at either end of the log is not part of it."""


def observed_days(counts: Mapping[date, int]) -> list[date]:
    """Days of the log (with so many events) in order, without strays before and after it."""
    total = sum(counts.values())
    running, typical = 0, 0
    for size in sorted(counts.values()):
        running, typical = running + size, size
        if running * 2 >= total:
            break
    busy = sorted(day for day, size in counts.items() if size >= typical * _STRAY_SHARE)
    return [day for day in sorted(counts) if busy and busy[0] <= day <= busy[-1]]


def newest_day(counts: Mapping[date, int]) -> date | None:
    """The last day of the log; None without events.

    The day right after the last observed one counts however few its events are: it may have just begun.

    >>> from datetime import date
    >>> newest_day({date(2025, 1, 1): 500, date(2025, 1, 2): 1, date(2099, 1, 1): 1})
    datetime.date(2025, 1, 2)
    """
    days = observed_days(counts)
    if not days:
        return None
    begun = days[-1] + timedelta(days=1)
    return begun if begun in counts else days[-1]
