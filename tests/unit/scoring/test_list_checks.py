"""Warnings about a list from a late log, or with unusually few users or buyers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retail_core.log_rhythm import Lateness
from retail_core.scoring.list_checks import ListSizes, LogLateness, late_log_warnings, short_list_warnings
from retail_core.store.mongo.deliveries import silences_between

NEWEST = datetime(2025, 2, 3, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "past", "is_short"),
    [
        (434, (921, 930, 900, 915), True),
        (600, (921, 930, 900, 915), False),
        (9, (20, 18, 22, 20), False),
        (400, (300, 900, 1500, 1100), False),
        (434, (921,), False),
        (0, (50, 60, 55, 52), True),
    ],
)
def test_a_list_is_short_if_it_is_far_below_the_past_weeks(
    now: int, past: tuple[int, ...], is_short: bool
) -> None:
    assert ListSizes(now, past).is_short == is_short


def test_short_lists_and_few_buyers_are_said_in_figures() -> None:
    warnings = short_list_warnings(ListSizes(434, (921, 921, 921)), 1.8, 0.029)
    assert warnings == [
        "The list is short: 434 users were active in the eligibility window, 921 are usual (921, 921, 921 in "
        "the past weeks).",
        "Few buyers are expected: 1.8, 27 are usual.",
    ]
    assert short_list_warnings(ListSizes(900, (921, 921)), 20.0, 0.029) == []


def test_a_late_log_is_said_with_its_limit() -> None:
    late = LogLateness(NEWEST, Lateness(38.0, 17.0, 100.0))
    assert late_log_warnings(late) == [
        "The log is late: its newest event is of 2025-02-03T22:00:00Z, 38 h ago; usual silences end within "
        "17 h."
    ]
    assert late_log_warnings(LogLateness(NEWEST, None)) == []
    assert late_log_warnings(LogLateness(NEWEST, Lateness(16.0, 17.0, 100.0))) == []


def test_files_of_the_past_are_no_deliveries() -> None:
    history = (NEWEST, NEWEST - timedelta(days=300))
    days = [(NEWEST + timedelta(days=n, hours=7), NEWEST + timedelta(days=n)) for n in range(1, 4)]
    assert silences_between([history, *days]) == [(days[0][1], days[1][0]), (days[1][1], days[2][0])]
