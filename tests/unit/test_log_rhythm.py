"""When a log is late, on made-up rhythms: continuous, of nights and weekends, of batches."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from retail_core.arrays import IntArray
from retail_core.log_rhythm import ArrivalRhythm, learn_rhythm
from retail_core.times import to_micros

FIRST = datetime(2025, 1, 6, tzinfo=UTC)
"""A Monday."""
MINUTE_US = 60_000_000


def log(days: int, by_hour: dict[int, float], weekdays: range = range(7), seed: int = 0) -> IntArray:
    """Active minutes: a mean number by hour of the day, Poisson, on some weekdays."""
    generator = np.random.default_rng(seed)
    begin = to_micros(FIRST) // MINUTE_US
    minutes = [
        begin + day * 1440 + hour * 60 + generator.integers(0, 60, generator.poisson(mean))
        for day in range(days)
        if day % 7 in weekdays
        for hour, mean in by_hour.items()
    ]
    return np.unique(np.concatenate(minutes))


def instant(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, tz=UTC)


def rhythm_of(minutes: IntArray, zone_name: str = "UTC", closed: tuple[date, ...] = ()) -> ArrivalRhythm:
    rhythm = learn_rhythm(minutes, zone_name, closed)
    assert rhythm is not None
    return rhythm


BUSY = dict.fromkeys(range(24), 30.0)
OFFICE = dict.fromkeys(range(8, 18), 20.0)


def test_a_busy_log_is_late_after_hours() -> None:
    minutes = log(56, BUSY)
    newest = instant(int(minutes[-1]))
    rhythm = rhythm_of(minutes)
    assert not rhythm.lateness(newest, newest + timedelta(hours=1)).is_late
    assert rhythm.lateness(newest, newest + timedelta(hours=3)).is_late


def test_quiet_nights_and_closed_weekends_are_not_late() -> None:
    minutes = log(54, OFFICE, range(5))
    friday_evening = instant(int(minutes[-1]))
    assert friday_evening.weekday() == 4
    rhythm = rhythm_of(minutes)
    monday = FIRST + timedelta(days=56)
    assert not rhythm.lateness(friday_evening, monday + timedelta(hours=8)).is_late
    assert rhythm.lateness(friday_evening, monday + timedelta(hours=15)).is_late


def test_an_announced_closed_day_postpones_the_limit() -> None:
    minutes = log(56, OFFICE)
    newest = instant(int(minutes[-1]))
    tomorrow = newest.date() + timedelta(days=1)
    at = newest + timedelta(hours=24)
    assert rhythm_of(minutes).lateness(newest, at).is_late
    assert not rhythm_of(minutes, closed=(tomorrow,)).lateness(newest, at).is_late


def test_hours_are_local() -> None:
    minutes = log(56, dict.fromkeys(range(8, 18), 20.0))
    rates = rhythm_of(minutes, "America/New_York").rates.reshape(7, 24)
    assert rates[:, 3:13].mean() > 100 * rates[:, 14:].mean()


def test_batches_are_late_when_the_next_one_is_missing() -> None:
    """A file every morning at five with the events of the day before."""
    minutes = log(56, BUSY)
    newest = instant(int(minutes[-1]))
    midnight = FIRST + timedelta(days=56)
    silences = [
        (midnight - timedelta(days=n, minutes=1), midnight + timedelta(days=1 - n, hours=5))
        for n in range(2, 9)
    ]
    rhythm = rhythm_of(minutes).with_deliveries(silences)
    assert not rhythm.lateness(newest, midnight + timedelta(hours=29)).is_late
    assert rhythm.lateness(newest, midnight + timedelta(hours=48)).is_late
    assert rhythm_of(minutes).with_deliveries(silences[:2]).longest == rhythm_of(minutes).longest


@pytest.mark.parametrize("minutes", [log(13, BUSY), log(56, {12: 0.3}), np.zeros(0, np.int64)])
def test_a_short_or_nearly_empty_log_has_no_rhythm(minutes: IntArray) -> None:
    assert learn_rhythm(minutes, "UTC") is None


def test_a_very_long_silence_is_late_in_any_shop() -> None:
    minutes = log(56, {12: 1.5})
    newest = instant(int(minutes[-1]))
    lateness = rhythm_of(minutes).lateness(newest, newest + timedelta(days=29))
    assert lateness.is_late
    assert lateness.hours == pytest.approx(29 * 24)


def test_quiet_shops_are_rarely_late() -> None:
    """Poisson shops of six sizes: the silences of the 90 days after the learned ones stay below the limit."""
    alarms = 0
    for seed, mean in enumerate((0.1, 0.2, 0.5, 1.0, 3.0, 10.0)):
        minutes = log(146, dict.fromkeys(range(7, 23), mean), seed=seed)
        end = to_micros(FIRST + timedelta(days=56)) // MINUTE_US
        rhythm = rhythm_of(minutes[minutes < end])
        later = minutes[minutes >= end]
        alarms += sum(
            rhythm.lateness(instant(int(a)), instant(int(b))).is_late
            for a, b in pairwise(later)
            if b - a > 120
        )
    assert alarms == 0
