"""The default cut-off of lists, and the sentence about the predicted window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from retail_core.features.cutoffs.list_cutoff import describe_window, earlier_rhythm, list_cutoff
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import DayRhythm
from retail_core.times import from_micros, to_micros
from tests.feature_logs import FolderLake, write_lake

ZONE = "Europe/Berlin"
BERLIN = ZoneInfo(ZONE)
TASK = PredictionTask(timezone=ZONE)


def local(day: int, hour: int, minute: int = 0, month: int = 2) -> datetime:
    return datetime(2025, month, day, hour, minute, tzinfo=BERLIN)


def busy_log(folder: Path, until: datetime, days: int = 30) -> tuple[FolderLake, datetime]:
    """100 visits a day with a peak at 18:00 and few at night, up to `until`; and the time of the newest."""
    rng = np.random.default_rng(5)
    times = []
    for n in range(days + 1):
        day = (until - timedelta(days=n)).replace(hour=0, minute=0)
        hours = np.clip(rng.normal(18, 2.5, 100), 0, 23.99)
        times += [day + timedelta(hours=float(hour)) for hour in hours]
    times = [*(time for time in times if time < until), until]
    events = [OnlineEvent(f"{i:032x}", f"u{i % 77}", to_micros(t), "view_item") for i, t in enumerate(times)]
    return write_lake(folder, events), until.astimezone(UTC)


def test_a_log_that_ends_in_the_evening_is_scored_for_the_next_day(tmp_path: Path) -> None:
    lake, newest = busy_log(tmp_path, local(19, 23, 28))
    assert list_cutoff(lake, newest, ZONE) == local(20, 0)


@pytest.mark.parametrize("hour", [3, 12, 18, 20])
def test_a_log_that_ends_within_the_day_is_scored_after_its_newest_event(tmp_path: Path, hour: int) -> None:
    lake, newest = busy_log(tmp_path, local(19, hour))
    assert list_cutoff(lake, newest, ZONE) == newest + timedelta(milliseconds=1)


def test_a_shop_that_closes_early_has_complete_days(tmp_path: Path) -> None:
    """The last order of each day comes between 17:00 and 18:20."""
    rng = np.random.default_rng(2)
    times = [
        local(1, 9 + n % 9) + timedelta(days=n // 9, minutes=float(rng.uniform(0, 80))) for n in range(180)
    ]
    events = [OnlineEvent(f"{i:032x}", f"u{i}", to_micros(t), "purchase") for i, t in enumerate(times)]
    newest = from_micros(max(event.event_time for event in events))
    assert list_cutoff(write_lake(tmp_path, events), newest, ZONE) == local(21, 0)


def test_the_first_day_of_a_log_has_no_rhythm(tmp_path: Path) -> None:
    lake, newest = busy_log(tmp_path, local(19, 23, 28), days=0)
    assert list_cutoff(lake, newest, ZONE) == newest + timedelta(milliseconds=1)
    lake, newest = busy_log(tmp_path / "later", local(19, 23, 59), days=0)
    assert list_cutoff(lake, newest, ZONE) == local(20, 0)


def test_the_rhythm_is_counted_from_the_end_of_each_local_day(tmp_path: Path) -> None:
    """Over the change to summer time on 30 March; an event at the same distance to midnight is not later."""
    times = [
        local(29, 23, 28, month=3),  # as far from midnight as the newest
        local(30, 23, 29, month=3),
        local(30, 1, 0, month=3),
        local(31, 23, 28, month=3),
    ]
    events = [OnlineEvent(str(i), f"u{i}", to_micros(t), "view_item") for i, t in enumerate(times)]
    lake = write_lake(tmp_path, events)
    rhythm = earlier_rhythm(lake, times[-1].astimezone(UTC), ZONE)
    assert rhythm == [DayRhythm(1, 0, 0), DayRhythm(2, 1, 1)]


@pytest.mark.parametrize(
    ("as_of", "newest", "policy", "text"),
    [
        (
            local(20, 0),
            local(19, 23, 28),
            "daily",
            "buys between 20 Feb 00:00 and 21 Feb 00:00 Europe/Berlin; data until 19 Feb 23:28",
        ),
        (
            local(10, 0),
            local(19, 23, 28),
            "daily",
            "buys between 10 Feb 00:00 and 11 Feb 00:00 Europe/Berlin; data until 10 Feb 00:00",
        ),
        (local(20, 0), None, "daily", "buys between 20 Feb 00:00 and 21 Feb 00:00 Europe/Berlin"),
        (
            local(20, 0),
            local(19, 23, 28),
            "first-visit",
            "buys within 24 h of a first visit before 20 Feb 00:00 Europe/Berlin; data until 19 Feb 23:28",
        ),
    ],
)
def test_the_window_is_stated_in_local_time(
    as_of: datetime, newest: datetime | None, policy: str, text: str
) -> None:
    assert describe_window(as_of, TASK, newest, policy) == text
