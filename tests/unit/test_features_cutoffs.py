"""Which days make rows: gaps, closures, strays, history, zones; first visits; labels too young."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from retail_core.errors import DataError
from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs, first_visit_pairs
from retail_core.features.online.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.labelled import build_labelled_rows
from retail_core.store.lake.table import Lake
from retail_core.times import from_micros, to_micros
from tests.feature_logs import DAY, HOUR, FolderLake, micros, pairs_of, write_lake

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


def test_gap_and_closure_are_told_apart(tmp_path: Path) -> None:
    """Six weeks over the change to summer time, shut on Sundays, one Wednesday lost."""
    sundays = {date(2025, 3, 9) + timedelta(days=7 * n) for n in range(6)}
    lost = date(2025, 4, 2)
    lake = daily_log(tmp_path, 42, without={*sundays, lost})
    question = PredictionTask(timezone="Europe/Berlin", lookback_days=7)
    plan = labelled_cutoffs(lake, question, datetime(2025, 4, 12, tzinfo=BERLIN))
    assert plan.gaps == (lost,)
    assert plan.closed_weekdays == (6,)
    assert plan.first_day == FIRST.date()
    assert local_days(plan.unknown) == [lost]
    expected = [date(2025, 3, 10) + timedelta(days=n) for n in range(33)]
    assert local_days(plan.cutoffs) == [day for day in expected if day != lost]


def test_nothing_after_as_of_is_known(tmp_path: Path) -> None:
    question = PredictionTask(timezone="Europe/Berlin", lookback_days=28)
    lake = daily_log(tmp_path, 12)
    as_of = datetime(2025, 3, 11, 23, 59, tzinfo=BERLIN)
    plan = labelled_cutoffs(lake, question, as_of)
    # Nine days so far: a quarter of them is history; the label of the 11th is known a minute later.
    assert local_days(plan.cutoffs) == [date(2025, 3, 5) + timedelta(days=n) for n in range(6)]
    later = labelled_cutoffs(lake, question, as_of + timedelta(minutes=1))
    assert local_days(later.cutoffs)[-1] == date(2025, 3, 11)
    two_days = labelled_cutoffs(lake, PredictionTask(48, 7, 28, "Europe/Berlin"), as_of)
    assert local_days(two_days.cutoffs)[-1] == date(2025, 3, 9)


def test_days_after_the_log_stopped_are_unknown(tmp_path: Path) -> None:
    """The last event is of 22:00 on the 14th: nobody knows who bought in the two hours after it."""
    question = PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(daily_log(tmp_path, 12), question, datetime(2025, 3, 18, tzinfo=BERLIN))
    assert plan.gaps == tuple(date(2025, 3, 15) + timedelta(days=n) for n in range(3))
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)
    assert local_days(plan.unknown) == [date(2025, 3, 14) + timedelta(days=n) for n in range(4)]


def test_a_day_cut_off_in_the_morning_has_no_label(tmp_path: Path) -> None:
    """Ingestion lags: the last complete day is the one before, whatever the wall clock says."""
    moments = [FIRST + timedelta(hours=n) for n in range(24 * 11 + 8)]
    events = [OnlineEvent(str(n), "u", to_micros(t), "purchase") for n, t in enumerate(moments)]
    lake, question = write_lake(tmp_path, events), PredictionTask(timezone="Europe/Berlin")
    for until in (date(2025, 3, 15), date(2025, 3, 18), date(2030, 1, 1)):
        as_of = datetime(until.year, until.month, until.day, tzinfo=BERLIN)
        plan = labelled_cutoffs(lake, question, as_of)
        assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)
        assert label_pairs(lake, question, daily_pairs(lake, question, plan.cutoffs)).all()


def test_a_long_silence_is_a_gap_and_no_closure(tmp_path: Path) -> None:
    question = PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(daily_log(tmp_path, 12), question, datetime(2025, 6, 1, tzinfo=BERLIN))
    assert plan.closed_weekdays == ()
    assert plan.gaps[0] == date(2025, 3, 15)
    assert plan.gaps[-1] == date(2025, 5, 31)
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)


@pytest.mark.parametrize(
    ("last", "known"),
    [("23:59:30", date(2025, 3, 14)), ("23:58:30", date(2025, 3, 13)), ("00:00:00", date(2025, 3, 13))],
)
def test_the_last_seconds_of_a_day_are_not_waited_for(tmp_path: Path, last: str, known: date) -> None:
    """The last event decides; with times of whole days (00:00:00) the newest day is not known."""
    times = [to_micros(FIRST + timedelta(days=n)) for n in range(12)]
    times.append(micros(f"2025-03-14T{last}+01:00"))
    events = [OnlineEvent(str(n), "u", time, "view_item") for n, time in enumerate(times)]
    lake, question = write_lake(tmp_path, events), PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(lake, question, datetime(2025, 3, 15, 5, tzinfo=BERLIN))
    assert local_days(plan.cutoffs)[-1] == known


def test_a_log_that_goes_on_shows_that_the_day_is_over(tmp_path: Path) -> None:
    lake, question = daily_log(tmp_path, 12), PredictionTask(timezone="Europe/Berlin")
    plan = labelled_cutoffs(lake, question, datetime(2025, 3, 14, tzinfo=BERLIN))
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 13)


@pytest.mark.parametrize("policy", ["daily", "in-session", "first-visit"])
def test_no_policy_labels_what_the_log_does_not_reach(tmp_path: Path, policy: str) -> None:
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
    question = PredictionTask(timezone="Europe/Berlin", eligible_days=1)
    found = build_labelled_rows(lake, question, (policy,), end + timedelta(days=30))
    newest = to_micros(end - timedelta(hours=1))
    assert to_micros(found.known_until) == newest
    assert (found.rows["as_of"] + question.horizon <= pd.Timestamp(found.known_until)).all()
    early = build_labelled_rows(lake, question, (policy,), end - timedelta(hours=1))
    pd.testing.assert_frame_equal(found.rows, early.rows)
    if policy == "first-visit":
        assert found.rows["label"].all()


def test_strays_are_not_the_log(tmp_path: Path) -> None:
    events = [
        OnlineEvent(str(i), "u", to_micros(FIRST) + i * DAY // 2000, "view_item") for i in range(2000 * 12)
    ]
    strays = [OnlineEvent("s1", "u", micros("2011-02-03T04:05:06+00:00"), "view_item")]
    lake = write_lake(tmp_path, events + strays)
    plan = labelled_cutoffs(
        lake, PredictionTask(timezone="Europe/Berlin"), datetime(2025, 3, 15, tzinfo=BERLIN)
    )
    assert plan.first_day == FIRST.date()
    assert plan.gaps == ()
    assert len(plan.cutoffs) == 9


def test_an_empty_log_has_no_cutoffs(tmp_path: Path) -> None:
    lake = write_lake(tmp_path, [])
    now = datetime(2025, 3, 15, tzinfo=BERLIN)
    assert labelled_cutoffs(lake, PredictionTask(), now).cutoffs == ()
    assert daily_pairs(lake, PredictionTask(), [now]).empty
    assert daily_pairs(lake, PredictionTask(), []).empty
    assert first_visit_pairs(lake, now).empty


def test_first_visits(tmp_path: Path) -> None:
    start = to_micros(FIRST)
    events = [
        OnlineEvent("1", "a", start + HOUR, "purchase"),
        OnlineEvent("2", "a", start, "view_item"),
        OnlineEvent("3", "b", start + 2 * HOUR, "view_item"),
        OnlineEvent("4", "c", start + 3 * HOUR, "view_item"),
        OnlineEvent("5", "b", start + 26 * HOUR + 1_000_000, "purchase"),
    ]
    lake = write_lake(tmp_path, events)
    pairs = first_visit_pairs(lake, from_micros(start + 3 * HOUR))
    assert list(pairs["user_id"]) == ["a", "b"]
    assert [to_micros(t.to_pydatetime()) for t in pairs["as_of"]] == [
        start + 1_000_000,
        start + 2 * HOUR + 1_000_000,
    ]
    # The purchase exactly at the end of the horizon is not in it.
    assert label_pairs(lake, PredictionTask(), pairs).tolist() == [True, False]


def test_a_label_younger_than_its_horizon_is_refused(tmp_path: Path) -> None:
    lake = daily_log(tmp_path, 3)
    pairs = pairs_of([("u0", to_micros(FIRST) + DAY)])
    assert not label_pairs(lake, PredictionTask(), pairs, known_until=FIRST + timedelta(days=2)).any()
    with pytest.raises(DataError, match="not known before"):
        label_pairs(lake, PredictionTask(), pairs, known_until=FIRST + timedelta(days=2, milliseconds=-1))
    assert label_pairs(lake, PredictionTask(), pairs_of([])).empty
