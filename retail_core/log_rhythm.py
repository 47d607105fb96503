"""When a log is late: the silence since its newest event against the silences of its own past.

Scoring and monitoring apply these rules, so they live below both. The unit is the active minute, one with at
least one event. The rate of active minutes by hour of the week makes silences comparable: the expected number
of active minutes within a silence is small at night, and zero on a weekday without business. Under a Poisson
process with that rate the expected numbers within silences are exponential with mean 1; where users come in
groups or days differ they are longer, and an exponential tail fitted to the longest silences of the past
gives the limit (peaks over threshold: Coles, An Introduction to Statistical Modeling of Extreme Values, 2001,
chapter 4).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
from scipy import stats

from retail_core.arrays import FloatArray, IntArray
from retail_core.times import EPOCH

RHYTHM_PERIOD = timedelta(days=56)
"""Past before the newest event that the rhythm is learned from."""

ALARMS_PER_YEAR = 0.01
"""Expected number of false alarms of a shop in a year."""

MIN_LIMIT = timedelta(hours=2)
"""Smallest limit: pipelines deliver with some delay."""

MAX_LIMIT = timedelta(days=28)
"""A silence this long is late whatever the rhythm, unless the shop is closed."""

MIN_DAYS = 14
MIN_ACTIVE_MINUTES = 50

MIN_DELIVERIES = 3
"""Batches from which on the delivery of a log has a rhythm of its own."""

_DELIVERY_FACTOR = 1.25
_QUARTER = timedelta(minutes=15)
_QUARTER_MINUTES = 15
_HOURS = 24 * 7
_PRIOR_MINUTES = 240.0
"""Weight, in minutes, of hour of day and weekday taken independently, beside the hour of the week itself."""

_TAIL_SILENCES = 50
"""Longest silences that the tail is fitted to: about one for each night of the period."""

_LONGEST_FACTOR = 1.5
"""The limit is at least this multiple of the longest silence of the past."""


@dataclass(frozen=True)
class Lateness:
    """How long a log has been silent, and how long it may be.

    Attributes:
        hours: since the newest event.
        limit_hours: silence that is exceeded by chance `ALARMS_PER_YEAR` times a year.
        expected_minutes: active minutes that would usually have come within the silence.
    """

    hours: float
    limit_hours: float
    expected_minutes: float

    @property
    def is_late(self) -> bool:
        """Whether the silence is longer than usual."""
        return self.hours > self.limit_hours


@dataclass(frozen=True)
class ArrivalRhythm:
    """Rate of active minutes by hour of the week, and the longest usual silence.

    Attributes:
        rates: expected active minutes per minute, shape (168,), from Monday 00:00 local time.
        longest: expected active minutes within a silence that is exceeded `ALARMS_PER_YEAR` times a year.
        zone_name: IANA zone of the hours.
        closed: days on which nothing is expected.
    """

    rates: FloatArray
    longest: float
    zone_name: str
    closed: frozenset[date] = frozenset()

    def lateness(self, newest: datetime, at: datetime) -> Lateness:
        """Silence from the newest event to `at` (both aware), and its limit."""
        steps = max(1, math.ceil(max(at - newest, MAX_LIMIT) / _QUARTER))
        rates = quarter_rates(self, newest, steps)
        expected = np.concatenate([[0.0], np.cumsum(rates * _QUARTER_MINUTES)])
        reached = int(np.searchsorted(expected, self.longest))
        limit = min(max(reached * _QUARTER, MIN_LIMIT), MAX_LIMIT + self._closed_time(newest))
        silence = max(at - newest, timedelta(0))
        within = float(np.interp(silence / _QUARTER, np.arange(steps + 1), expected))
        return Lateness(silence / timedelta(hours=1), limit / timedelta(hours=1), within)

    def with_deliveries(self, silences: Sequence[tuple[datetime, datetime]]) -> ArrivalRhythm:
        """The rhythm of a log that arrives in batches: what was waited for before must not be late.

        Args:
            silences: newest event and arrival of the next batch (both aware).
        """
        if len(silences) < MIN_DELIVERIES:
            return self
        waited = max(self.lateness(newest, arrival).expected_minutes for newest, arrival in silences)
        return replace(self, longest=max(self.longest, _DELIVERY_FACTOR * waited))

    def _closed_time(self, newest: datetime) -> timedelta:
        """Announced closed days soon after the newest event."""
        end = (newest + 2 * MAX_LIMIT).date()
        return timedelta(days=sum(newest.date() <= day <= end for day in self.closed))


def quarter_rates(rhythm: ArrivalRhythm, start: datetime, quarters: int) -> FloatArray:
    """Expected active minutes per minute of the quarters of an hour from `start` (aware) on."""
    times = pd.date_range(start, periods=quarters, freq=_QUARTER).tz_convert(rhythm.zone_name)
    rates = rhythm.rates[_hour_of_week(times)]
    if rhythm.closed:
        rates = np.where(_is_on(times, rhythm.closed), 0.0, rates)
    return rates


def _hour_of_week(times: pd.DatetimeIndex) -> IntArray:
    return np.asarray(times.day_of_week * 24 + times.hour, dtype=np.int64)


def _is_on(times: pd.DatetimeIndex, days: Collection[date]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.isin(times.tz_localize(None).normalize(), pd.DatetimeIndex(sorted(map(str, days))))


def learn_rhythm(
    active_minutes: Sequence[int] | IntArray, zone_name: str, closed: Collection[date] = ()
) -> ArrivalRhythm | None:
    """The rhythm of a log; None with fewer than `MIN_DAYS` days or `MIN_ACTIVE_MINUTES` active minutes.

    Args:
        active_minutes: minutes since 1970 UTC with at least one event, ascending, without repetitions.
        zone_name: IANA zone of the shop.
        closed: announced local days that are left out, and on which nothing is expected.
    """
    minutes = np.asarray(active_minutes, dtype=np.int64)
    first, last = (int(minutes[0]), int(minutes[-1])) if len(minutes) else (0, 0)
    if len(minutes) < MIN_ACTIVE_MINUTES or last - first < MIN_DAYS * 24 * 60:
        return None
    start = first // _QUARTER_MINUTES
    counts = np.bincount(minutes // _QUARTER_MINUTES - start).astype(np.float64)
    times = pd.date_range(EPOCH + start * _QUARTER, periods=len(counts), freq=_QUARTER).tz_convert(zone_name)
    is_open = ~_is_on(times, closed) if closed else np.ones(len(counts), dtype=bool)
    hours = _hour_of_week(times)
    active = np.bincount(hours[is_open], counts[is_open], _HOURS).astype(np.float64)
    observed = np.bincount(hours[is_open], minlength=_HOURS).astype(np.float64) * _QUARTER_MINUTES
    rhythm = ArrivalRhythm(_rates(active, observed), 0.0, zone_name, frozenset(closed))
    expected = quarter_rates(rhythm, EPOCH + start * _QUARTER, len(counts)) * _QUARTER_MINUTES
    silences = _silences(minutes - start * _QUARTER_MINUTES, expected)
    return ArrivalRhythm(
        rhythm.rates, _longest(silences, (last - first) / (365 * 24 * 60)), zone_name, rhythm.closed
    )


def _rates(active: FloatArray, observed: FloatArray) -> FloatArray:
    """Rates by hour of the week, shrunk towards the product of hour of day and weekday."""
    shape = (7, 24)
    total, minutes = active.sum(), observed.sum()
    by_hour = active.reshape(shape).sum(0) / np.maximum(observed.reshape(shape).sum(0), 1)
    by_day = active.reshape(shape).sum(1) / np.maximum(observed.reshape(shape).sum(1), 1)
    prior = np.minimum(np.outer(by_day, by_hour).ravel() * minutes / total, 1.0)
    share = (active + _PRIOR_MINUTES * prior) / (observed + _PRIOR_MINUTES)
    rates: FloatArray = -np.log1p(-np.minimum(share, 1 - 1 / (2 * observed + 2)))
    return rates


def _silences(minutes: IntArray, expected: FloatArray) -> FloatArray:
    """Expected active minutes between successive active minutes."""
    cumulative = np.concatenate([[0.0], np.cumsum(expected)])
    grid = np.arange(len(cumulative)) * _QUARTER_MINUTES
    begin, end = minutes[:-1] + 1, minutes[1:]
    silences: FloatArray = np.interp(end, grid, cumulative) - np.interp(begin, grid, cumulative)
    return silences


def _longest(silences: FloatArray, years: float) -> float:
    """Size of a silence that is exceeded `ALARMS_PER_YEAR` times a year, by an exponential tail.

    The mean excess is taken at its upper 95 % confidence bound.
    """
    ordered = np.sort(silences)[::-1]
    count = min(len(ordered) - 1, _TAIL_SILENCES)
    threshold = float(ordered[count])
    mean_excess = float(ordered[:count].mean()) - threshold
    mean_excess *= 2 * count / float(stats.chi2.ppf(0.05, 2 * count))
    tail = threshold + mean_excess * math.log(max(count / years / ALARMS_PER_YEAR, 1.0))
    return max(tail, _LONGEST_FACTOR * float(ordered[0]))
