"""Daily cut-offs with a known label: gaps, closures, outliers, history, zones."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs, first_visit_pairs
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.labelled import build_labelled_rows
from retail_core.store.lake.table import Lake
from retail_core.times import to_micros
from tests.feature_logs import DAY, FolderLake, micros, write_lake

BERLIN = ZoneInfo("Europe/Berlin")
FIRST = datetime(2025, 3, 3, tzinfo=BERLIN)


def daily_log(folder: Path, days: int, *, without: set[date] = frozenset()) -> FolderLake:  # type: ignore[assignment]
    """Each day a first and a last event, local time, but not on the days left out."""
    times = []
    for n in range(days):
        midnight = (FIRST.replace(tzinfo=None) + timedelta(days=n)).replace(tzinfo=BERLIN)
        if midnight.date() not in without:
            times += [midnight, midnight + timedelta(hours=22)]
    events = [OnlineEvent(str(i), f"u{i % 3}", to_micros(t), "view_item") for i, t in enumerate(times)]
    return write_lake(folder, events)


def local_days(cutoffs: tuple[datetime, ...]) -> list[date]:
    assert all(t.astimezone(BERLIN).hour == 0 for t in cutoffs)
    return [t.astimezone(BERLIN).date() for t in cutoffs]


def test_gaps_are_distinguished_from_closed_weekdays(tmp_path: Path) -> None:
    """Six weeks over the change to summer time, closed on Sundays, one Wednesday missing."""
    sundays = {date(2025, 3, 9) + timedelta(days=7 * n) for n in range(6)}
    missing_day = date(2025, 4, 2)
    lake = daily_log(tmp_path, 42, without={*sundays, missing_day})
    task = PredictionTask(timezone="Europe/Berlin", lookback_days=7, quiet_days="outage")
    plan = labelled_cutoffs(lake, task, datetime(2025, 4, 12, tzinfo=BERLIN))
    by_rate = labelled_cutoffs(lake, replace(task, quiet_days="auto"), datetime(2025, 4, 12, tzinfo=BERLIN))
    assert (by_rate.gaps, by_rate.quiet_days) == ((), (missing_day,)), "two users a day: silence is usual"
    assert set(by_rate.cutoffs) - set(plan.cutoffs) == set(plan.unknown)
    assert plan.gaps == (missing_day,)
    assert plan.closed_weekdays == (6,)
    assert plan.first_day == FIRST.date()
    assert local_days(plan.unknown) == [missing_day]
    expected = [date(2025, 3, 10) + timedelta(days=n) for n in range(33)]
    assert local_days(plan.cutoffs) == [day for day in expected if day != missing_day]


def test_no_label_is_known_after_as_of(tmp_path: Path) -> None:
    task = PredictionTask(timezone="Europe/Berlin", lookback_days=28)
    lake = daily_log(tmp_path, 12)
    as_of = datetime(2025, 3, 11, 23, 59, tzinfo=BERLIN)
    plan = labelled_cutoffs(lake, task, as_of)
    # Nine days so far: a quarter of them is history; the label of the 11th is known a minute later.
    assert local_days(plan.cutoffs) == [date(2025, 3, 5) + timedelta(days=n) for n in range(6)]
    later = labelled_cutoffs(lake, task, as_of + timedelta(minutes=1))
    assert local_days(later.cutoffs)[-1] == date(2025, 3, 11)
    two_day_horizon = labelled_cutoffs(lake, PredictionTask(48, 7, 28, "Europe/Berlin"), as_of)
    assert local_days(two_day_horizon.cutoffs)[-1] == date(2025, 3, 9)


def test_days_after_the_log_stopped_are_unknown(tmp_path: Path) -> None:
    """The last event is at 22:00 on the 14th: purchases in the two hours after it are unknown."""
    task = PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(daily_log(tmp_path, 12), task, datetime(2025, 3, 18, tzinfo=BERLIN))
    assert plan.gaps == tuple(date(2025, 3, 15) + timedelta(days=n) for n in range(3))
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)
    assert local_days(plan.unknown) == [date(2025, 3, 14) + timedelta(days=n) for n in range(4)]


def test_a_day_cut_off_in_the_morning_has_no_label(tmp_path: Path) -> None:
    """Ingestion is late: the last complete day is the one before, at any `as_of`."""
    moments = [FIRST + timedelta(hours=n) for n in range(24 * 11 + 8)]
    events = [OnlineEvent(str(n), "u", to_micros(t), "purchase") for n, t in enumerate(moments)]
    lake, task = write_lake(tmp_path, events), PredictionTask(timezone="Europe/Berlin")
    for until in (date(2025, 3, 15), date(2025, 3, 18), date(2030, 1, 1)):
        as_of = datetime(until.year, until.month, until.day, tzinfo=BERLIN)
        plan = labelled_cutoffs(lake, task, as_of)
        assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)
        assert label_pairs(lake, task, daily_pairs(lake, task, plan.cutoffs)).all()


def test_a_long_period_without_events_is_a_gap(tmp_path: Path) -> None:
    task = PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(daily_log(tmp_path, 12), task, datetime(2025, 6, 1, tzinfo=BERLIN))
    assert plan.closed_weekdays == ()
    assert plan.gaps[0] == date(2025, 3, 15)
    assert plan.gaps[-1] == date(2025, 5, 31)
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)


@pytest.mark.parametrize(
    ("last_time", "last_cutoff"),
    [("23:59:30", date(2025, 3, 14)), ("23:58:30", date(2025, 3, 13)), ("00:00:00", date(2025, 3, 13))],
)
def test_a_last_event_close_to_midnight_completes_the_day(
    tmp_path: Path, last_time: str, last_cutoff: date
) -> None:
    """With dates only (00:00:00) the newest day is not known."""
    times = [to_micros(FIRST + timedelta(days=n)) for n in range(12)]
    times.append(micros(f"2025-03-14T{last_time}+01:00"))
    events = [OnlineEvent(str(n), "u", time, "view_item") for n, time in enumerate(times)]
    lake, task = write_lake(tmp_path, events), PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(lake, task, datetime(2025, 3, 15, 5, tzinfo=BERLIN))
    assert local_days(plan.cutoffs)[-1] == last_cutoff


def test_events_after_as_of_show_that_the_day_is_complete(tmp_path: Path) -> None:
    lake, task = daily_log(tmp_path, 12), PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(lake, task, datetime(2025, 3, 14, tzinfo=BERLIN))
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)


@pytest.mark.parametrize("policy", ["daily", "in-session", "first-visit"])
def test_no_policy_has_labels_beyond_the_end_of_the_log(tmp_path: Path, policy: str) -> None:
    """A new user every hour who buys 20 h later; the log stops in the morning of the last day."""
    end = FIRST + timedelta(days=12, hours=8)
    moments = [FIRST + timedelta(hours=n) for n in range(24 * 12 + 8)]
    visits = [OnlineEvent(f"v{n}", f"u{n}", to_micros(t), "view_item") for n, t in enumerate(moments)]
    orders = [
        OnlineEvent(f"p{n}", f"u{n}", to_micros(bought), "purchase")
        for n, t in enumerate(moments)
        if (bought := t + timedelta(hours=20)) < end
    ]
    lake = cast("Lake", write_lake(tmp_path, [*visits, *orders]))
    task = PredictionTask(timezone="Europe/Berlin", eligible_days=1)
    labelled = build_labelled_rows(lake, task, (policy,), end + timedelta(days=30))
    newest = to_micros(end - timedelta(hours=1))
    assert to_micros(labelled.known_until) == newest
    assert (labelled.rows["as_of"] + task.horizon <= pd.Timestamp(labelled.known_until)).all()
    early = build_labelled_rows(lake, task, (policy,), end - timedelta(hours=1))
    pd.testing.assert_frame_equal(labelled.rows, early.rows)
    if policy == "first-visit":
        assert labelled.rows["label"].all()


def test_outlier_times_are_not_part_of_the_log(tmp_path: Path) -> None:
    events = [
        OnlineEvent(str(i), "u", to_micros(FIRST) + i * DAY // 2000, "view_item") for i in range(2000 * 12)
    ]
    outliers = [OnlineEvent("s1", "u", micros("2011-02-03T04:05:06+00:00"), "view_item")]
    lake = write_lake(tmp_path, events + outliers)
    plan = labelled_cutoffs(
        lake, PredictionTask(timezone="Europe/Berlin"), datetime(2025, 3, 15, tzinfo=BERLIN)
    )
    assert plan.first_day == FIRST.date()
    assert plan.gaps == ()
    assert len(plan.cutoffs) == 9


def test_an_empty_log_has_no_cutoffs(tmp_path: Path) -> None:
    lake = write_lake(tmp_path, [])
    cutoff = datetime(2025, 3, 15, tzinfo=BERLIN)
    assert labelled_cutoffs(lake, PredictionTask(), cutoff).cutoffs == ()
    assert daily_pairs(lake, PredictionTask(), [cutoff]).empty
    assert daily_pairs(lake, PredictionTask(), []).empty
    assert first_visit_pairs(lake, cutoff).empty
