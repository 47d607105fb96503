"""Days covered by an event log, ignoring outlier timestamps, and the days of it without events.

The lake, the cut-off planner, the shop's context features and the maturing of predictions apply these rules,
so they live below all of them. A day is a calendar date in the zone in which the caller counts its events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from retail_core.times import zone

_OUTLIER_SHARE = 0.01
"""Leading and trailing days with less than this share of a typical day's events are outliers."""

_MIN_WEEKS_FOR_CLOSURE = 3
"""How often a weekday must occur before it can count as regularly closed."""


def covered_days(event_counts: Mapping[date, int]) -> list[date]:
    """Days with events that belong to the log, ascending.

    Wrong device clocks produce a few events far before or after the log. A typical day is the one that holds
    the median event when days are sorted by size. Days before the first and after the last day with at least
    1 % of its events are left out.

    Args:
        event_counts: number of events by day; days without events may be absent.
    """
    total = sum(event_counts.values())
    cumulative, typical = 0, 0
    for count in sorted(event_counts.values()):
        cumulative, typical = cumulative + count, count
        if cumulative * 2 >= total:
            break
    busy = sorted(day for day, count in event_counts.items() if count >= typical * _OUTLIER_SHARE)
    return [day for day in sorted(event_counts) if busy and busy[0] <= day <= busy[-1]]


def last_covered_day(event_counts: Mapping[date, int]) -> date | None:
    """Last day of the log; None without events.

    The day after the last of `covered_days` is included if it has any event: it may have just begun.

    >>> from datetime import date
    >>> last_covered_day({date(2025, 1, 1): 500, date(2025, 1, 2): 1, date(2099, 1, 1): 1})
    datetime.date(2025, 1, 2)
    """
    days = covered_days(event_counts)
    if not days:
        return None
    next_day = days[-1] + timedelta(days=1)
    return next_day if next_day in event_counts else days[-1]


def closed_weekdays(days: Sequence[date], days_without_events: Sequence[date]) -> tuple[int, ...]:
    """Weekdays (0 = Monday) on which the shop is regularly closed.

    A weekday is closed if it occurs at least three times in `days` and has no events in most of them.

    Args:
        days: every calendar day of the log.
        days_without_events: those of them that have no event.
    """
    closed = []
    for weekday in range(7):
        occurrences = sum(day.weekday() == weekday for day in days)
        without_events = sum(day.weekday() == weekday for day in days_without_events)
        if occurrences >= _MIN_WEEKS_FOR_CLOSURE and without_events * 2 > occurrences:
            closed.append(weekday)
    return tuple(closed)


def overlaps_gap(start: datetime, end: datetime, zone_name: str, gaps: Sequence[date]) -> bool:
    """Whether [start, end) contains an instant of a gap day.

    Args:
        start: aware.
        end: aware, after `start`.
        zone_name: IANA zone in which the gap days are counted.
        gaps: days without events on which the shop was not regularly closed.

    Raises:
        InputError: there is no such zone.
    """
    shop_zone = zone(zone_name)
    first = start.astimezone(shop_zone).date()
    last = (end - timedelta(microseconds=1)).astimezone(shop_zone).date()
    return any(first <= gap <= last for gap in gaps)
