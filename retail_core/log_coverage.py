"""Days covered by an event log, ignoring outlier timestamps, and which silences in it are outages.

The lake, the cut-off planner, the shop's context features and the maturing of predictions apply these rules,
so they live below all of them. A day is a calendar date in the zone in which the caller counts its events.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

from retail_core.times import zone

QuietDays = Literal["auto", "real", "outage"]
"""How local days without events are read: by their probability, all as real, or all as outages."""

SILENCE_LIMIT = 1e-3
"""With `auto`, a run of days without events that is less probable than this is an outage."""

RATE_REACH = timedelta(days=28)
"""The rate of a silent run comes from days with events at most this long before or after it."""

_MIN_SAME_WEEKDAY = 4
"""Days of the same weekday with events from which on their mean replaces that of all days."""

RHYTHM_DAYS = 28
"""How many days with events before the last one `is_last_day_complete` compares it with."""

USUAL_SILENCE = 0.05
"""The silence up to midnight is usual if at least this share of evenings shows one as long."""

NEGLIGIBLE_SHARE = 0.05
"""The last day is complete if at most this share of a usual day's events comes later in the day."""

_ONE_DAY = timedelta(days=1)

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
    next_day = days[-1] + _ONE_DAY
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


@dataclass(frozen=True)
class SilentDays:
    """Calendar days without events.

    Attributes:
        closed_weekdays: weekdays (0 = Monday) on which the shop is regularly closed.
        outages: days on which events are missing, ascending; labels that touch them are unknown.
        quiet: days on which nobody came, on weekdays that are not closed, ascending.
    """

    closed_weekdays: tuple[int, ...] = ()
    outages: tuple[date, ...] = ()
    quiet: tuple[date, ...] = ()


def classify_silent_days(
    days: Sequence[date], active_users: Mapping[date, int], quiet_days: QuietDays = "auto"
) -> SilentDays:
    """Closed weekdays, and for every other day without events whether it is an outage or a quiet day.

    With `auto`, consecutive silent days are an outage if all of them being silent is less probable than
    `SILENCE_LIMIT` at the rate of the days around them. The count is of users rather than events, because
    the events of one visit are not independent. The number of active users of a day is negative binomial
    with the mean of its weekday and one dispersion (Poisson where counts vary no more than that); since
    silent days may be outages, the rate is estimated from days with events alone, as zero-truncated. A day
    is never taken as more likely to be silent than the share of silent days around it, outages included.

    Args:
        days: every calendar day to classify, ascending.
        active_users: users with an event by day; days without events are absent.
        quiet_days: `auto`; `real` and `outage` classify all such days alike.

    >>> days = [date(2025, 1, 1) + timedelta(days=n) for n in range(29)]
    >>> small = {day: 1 + day.day % 3 for day in days if day.day != 15}
    >>> classify_silent_days(days, small).quiet
    (datetime.date(2025, 1, 15),)
    >>> classify_silent_days(days, {day: 200 for day in small}).outages
    (datetime.date(2025, 1, 15),)
    """
    silent = [day for day in days if not active_users.get(day)]
    closed = closed_weekdays(days, silent)
    open_days = [day for day in days if day.weekday() not in closed]
    outages: list[date] = []
    for run in _silent_runs(open_days, active_users):
        is_improbable = quiet_days == "auto" and (
            _silence_probability(run, open_days, active_users) < SILENCE_LIMIT
        )
        if quiet_days == "outage" or is_improbable:
            outages += run
    missing = frozenset(outages)
    quiet = tuple(day for day in silent if day.weekday() not in closed and day not in missing)
    return SilentDays(closed, tuple(outages), quiet)


def _silent_runs(open_days: Sequence[date], active_users: Mapping[date, int]) -> Iterator[list[date]]:
    """Maximal runs of successive open days without events."""
    run: list[date] = []
    for day in open_days:
        if not active_users.get(day):
            run.append(day)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _silence_probability(
    run: Sequence[date], open_days: Sequence[date], active_users: Mapping[date, int]
) -> float:
    """Probability that nobody is active on any day of a run, at the rate of the open days around it."""
    first, last = run[0] - RATE_REACH, run[-1] + RATE_REACH
    around = [day for day in open_days if first <= day <= last]
    nearby = {day: active_users[day] for day in around if active_users.get(day)}
    if not nearby:
        return 0.0
    of_all = _mean(nearby.values())
    by_weekday = [[users for day, users in nearby.items() if day.weekday() == n] for n in range(7)]
    means = [_mean(counts) if len(counts) >= _MIN_SAME_WEEKDAY else of_all for counts in by_weekday]
    degrees = len(nearby) - sum(len(counts) >= _MIN_SAME_WEEKDAY for counts in by_weekday)
    residuals = sum(
        (users - means[day.weekday()]) ** 2 / means[day.weekday()] for day, users in nearby.items()
    )
    dispersion = residuals / degrees if degrees > 0 else 1.0
    most = math.log((len(around) - len(nearby) + 1) / (len(around) + 1))
    return math.exp(sum(min(most, _log_probability_of_none(means[day.weekday()], dispersion)) for day in run))


def _mean(counts: Collection[int]) -> float:
    return sum(counts) / len(counts)


def _log_probability_of_none(positive_mean: float, dispersion: float) -> float:
    """Logarithm of P(0) of a count whose mean over its positive values is known.

    Args:
        positive_mean: at least 1; mean of the zero-truncated count.
        dispersion: variance over mean; at most 1 is Poisson, above it negative binomial.
    """
    rate = positive_mean
    for _ in range(100):  # the fixed point of the zero-truncated Poisson mean, rate / (1 - exp(-rate))
        rate = positive_mean * -math.expm1(-rate)
    if dispersion <= 1 + 1e-9:
        return -rate
    return -rate * math.log(dispersion) / (dispersion - 1)


class DayRhythm(NamedTuple):
    """Activity of one earlier local day, compared with the time of day of the newest event.

    Attributes:
        events: events of the day.
        later_events: those of them whose distance to the end of the day is smaller.
        later_users: distinct users of the later events.
    """

    events: int
    later_events: int
    later_users: int


def is_last_day_complete(earlier_days: Sequence[DayRhythm]) -> bool:
    """Whether the silence from the newest event to midnight is usual for this shop, so that its day is over.

    It is where at most `NEGLIGIBLE_SHARE` of the events of earlier days came later in the day, or where the
    silence has a probability of at least `USUAL_SILENCE`: the share of earlier days without a later event,
    or that of none by Poisson at the mean number of later users. Without earlier days nothing is usual.

    >>> is_last_day_complete([DayRhythm(200, 3, 2)] * 7)  # 23:28: 1.5 % of the events come later
    True
    >>> is_last_day_complete([DayRhythm(200, 90, 40)] * 7)  # 15:00
    False
    >>> is_last_day_complete([DayRhythm(9, 2, 1)] * 7)  # 20:00 in a small shop: silence with 37 %
    True
    """
    if not earlier_days:
        return False
    later, total = (sum(day.later_events for day in earlier_days), sum(day.events for day in earlier_days))
    if later <= NEGLIGIBLE_SHARE * total:
        return True
    without_later = sum(not day.later_users for day in earlier_days) / len(earlier_days)
    poisson = math.exp(-sum(day.later_users for day in earlier_days) / len(earlier_days))
    return max(without_later, poisson) >= USUAL_SILENCE


def overlaps_gap(start: datetime, end: datetime, zone_name: str, gaps: Sequence[date]) -> bool:
    """Whether [start, end) contains an instant of a gap day.

    Args:
        start: aware.
        end: aware, after `start`.
        zone_name: IANA zone in which the gap days are counted.
        gaps: days whose events are missing.

    Raises:
        InputError: there is no such zone.
    """
    shop_zone = zone(zone_name)
    first = start.astimezone(shop_zone).date()
    last = (end - timedelta(microseconds=1)).astimezone(shop_zone).date()
    return any(first <= gap <= last for gap in gaps)
