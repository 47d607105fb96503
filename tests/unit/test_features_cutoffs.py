"""Which days make rows: gaps, closures, strays, history, zones; first visits; labels too young."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from retail_core.errors import DataError
from retail_core.features.cutoffs import daily_pairs, first_visit_pairs, labelled_cutoffs
from retail_core.features.definitions import Question
from retail_core.features.labels import label
from retail_core.features.online import OnlineEvent
from retail_core.features.reader import from_micros, to_micros
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
    question = Question(timezone="Europe/Berlin", lookback_days=7)
    plan = labelled_cutoffs(lake, question, datetime(2025, 4, 13, tzinfo=BERLIN))
    assert plan.gaps == (lost,)
    assert plan.closed_weekdays == (6,)
    assert plan.first_day == FIRST.date()
    assert local_days(plan.unknown) == [lost]
    expected = [date(2025, 3, 10) + timedelta(days=n) for n in range(34)]
    assert local_days(plan.cutoffs) == [day for day in expected if day != lost]


def test_nothing_after_as_of_is_known(tmp_path: Path) -> None:
    question = Question(timezone="Europe/Berlin", lookback_days=28)
    lake = daily_log(tmp_path, 12)
    as_of = datetime(2025, 3, 11, 23, 59, tzinfo=BERLIN)
    plan = labelled_cutoffs(lake, question, as_of)
    # Nine days so far: a quarter of them is history; the label of the 11th is known a minute later.
    assert local_days(plan.cutoffs) == [date(2025, 3, 5) + timedelta(days=n) for n in range(6)]
    later = labelled_cutoffs(lake, question, as_of + timedelta(minutes=1))
    assert local_days(later.cutoffs)[-1] == date(2025, 3, 11)
    two_days = labelled_cutoffs(lake, Question(48, 7, 28, "Europe/Berlin"), as_of)
    assert local_days(two_days.cutoffs)[-1] == date(2025, 3, 9)


def test_days_after_the_log_stopped_are_unknown(tmp_path: Path) -> None:
    question = Question(timezone="Europe/Berlin")
    plan = labelled_cutoffs(daily_log(tmp_path, 12), question, datetime(2025, 3, 18, tzinfo=BERLIN))
    assert plan.gaps == tuple(date(2025, 3, 15) + timedelta(days=n) for n in range(3))
    assert local_days(plan.cutoffs)[-1] == date(2025, 3, 14)


def test_strays_are_not_the_log(tmp_path: Path) -> None:
    events = [
        OnlineEvent(str(i), "u", to_micros(FIRST) + i * DAY // 2000, "view_item") for i in range(2000 * 12)
    ]
    strays = [OnlineEvent("s1", "u", micros("2011-02-03T04:05:06+00:00"), "view_item")]
    lake = write_lake(tmp_path, events + strays)
    plan = labelled_cutoffs(lake, Question(timezone="Europe/Berlin"), datetime(2025, 3, 15, tzinfo=BERLIN))
    assert plan.first_day == FIRST.date()
    assert plan.gaps == ()
    assert len(plan.cutoffs) == 9


def test_an_empty_log_has_no_cutoffs(tmp_path: Path) -> None:
    lake = write_lake(tmp_path, [])
    now = datetime(2025, 3, 15, tzinfo=BERLIN)
    assert labelled_cutoffs(lake, Question(), now).cutoffs == ()
    assert daily_pairs(lake, Question(), [now]).empty
    assert daily_pairs(lake, Question(), []).empty
    assert first_visit_pairs(lake, Question(), now).empty


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
    pairs = first_visit_pairs(lake, Question(), from_micros(start + 3 * HOUR))
    assert list(pairs["user_id"]) == ["a", "b"]
    assert [to_micros(t.to_pydatetime()) for t in pairs["as_of"]] == [
        start + 1_000_000,
        start + 2 * HOUR + 1_000_000,
    ]
    # The purchase exactly at the end of the horizon is not in it.
    assert label(lake, Question(), pairs).tolist() == [True, False]


def test_a_label_younger_than_its_horizon_is_refused(tmp_path: Path) -> None:
    lake = daily_log(tmp_path, 3)
    pairs = pairs_of([("u0", to_micros(FIRST) + DAY)])
    assert not label(lake, Question(), pairs, known_until=FIRST + timedelta(days=2)).any()
    with pytest.raises(DataError, match="not known before"):
        label(lake, Question(), pairs, known_until=FIRST + timedelta(days=2, milliseconds=-1))
    assert label(lake, Question(), pairs_of([])).empty
