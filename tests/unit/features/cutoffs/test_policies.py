"""Cut-off policies: where their instants lie, what they may depend on, and when they apply."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retail_core.features.cutoffs.cutoff_plan import CutoffPlan, labelled_cutoffs
from retail_core.features.cutoffs.policies import (
    IN_SESSION,
    default_policies,
    in_session_pairs,
    policies_for,
    policy_for,
    share_of_long_sessions,
)
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros, to_micros
from tests.feature_logs import FolderLake, write_lake

START = datetime(2025, 1, 1, tzinfo=UTC)
BEFORE = START + timedelta(days=11)


def event(user: str, moment: datetime, kind: str = "view_item") -> OnlineEvent:
    return OnlineEvent(f"{user} {kind} {moment:%d%H%M}", user, to_micros(moment), kind)


MOMENTS = [START + timedelta(days=day, hours=9, minutes=10 * n) for day in range(12) for n in range(3)]
EVENTS = [event(f"u{user}", moment) for user in range(40) for moment in MOMENTS]
"""Forty users with three events, ten minutes apart, on each of twelve days."""


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    return write_lake(tmp_path, EVENTS)


def test_every_instant_is_within_30_minutes_after_an_event(lake: FolderLake) -> None:
    plan = labelled_cutoffs(lake, PredictionTask(), BEFORE + timedelta(days=1))
    pairs = in_session_pairs(lake, PredictionTask(), plan, BEFORE)
    assert len(pairs) > 100
    assert pairs["as_of"].between(pd.Timestamp(plan.cutoffs[0]), pd.Timestamp(BEFORE)).all()
    minutes = (pairs["as_of"] - pairs["as_of"].dt.floor("D") - pd.Timedelta(hours=9)).dt.total_seconds() / 60
    assert ((minutes > 0) & (minutes < 50)).all()
    assert pairs["user_id"].nunique() == 40


def test_later_events_do_not_change_the_instants_before_them(lake: FolderLake, tmp_path: Path) -> None:
    plan = labelled_cutoffs(lake, PredictionTask(), BEFORE)
    middle = START + timedelta(days=6)
    full_log_pairs = in_session_pairs(lake, PredictionTask(), plan, middle)
    cut = write_lake(tmp_path / "cut", [e for e in EVENTS if from_micros(e.event_time) < middle])
    pd.testing.assert_frame_equal(full_log_pairs, in_session_pairs(cut, PredictionTask(), plan, middle))


def test_no_instant_has_a_horizon_that_overlaps_a_gap(lake: FolderLake) -> None:
    gap = (START + timedelta(days=6)).date()
    plan = CutoffPlan((START,), (gap,))
    pairs = in_session_pairs(lake, PredictionTask(), plan, BEFORE)
    days = set(pairs["as_of"].dt.date)
    assert not days & {gap, gap - timedelta(days=1)}
    assert gap + timedelta(days=1) in days


def test_without_cutoffs_there_are_no_instants(lake: FolderLake) -> None:
    assert in_session_pairs(lake, PredictionTask(), CutoffPlan((), ()), BEFORE).empty


def test_in_session_needs_sessions_with_events_at_different_times(lake: FolderLake, tmp_path: Path) -> None:
    assert share_of_long_sessions(lake, BEFORE) == 1.0
    assert default_policies(lake, None, BEFORE) == ("daily", IN_SESSION)
    assert default_policies(lake, "first-visit", BEFORE) == ("first-visit",)
    stamps = [event(f"u{n}", START + timedelta(days=n % 5)) for n in range(20)]
    single = write_lake(tmp_path / "stamps", [*stamps, event("u0", START, "search")])
    assert share_of_long_sessions(single, BEFORE) == 0.0
    assert default_policies(single, None, BEFORE) == ("daily",)


def test_online_and_batch_select_the_policy_by_the_same_rule() -> None:
    hours = [0.0, 0.4999, 0.5, 30.0, np.nan]
    both = ("daily", IN_SESSION)
    frame = pd.DataFrame({"hours_since_event": hours})
    assert list(policies_for(frame, both)) == [policy_for(value, both) for value in hours]
    assert list(policies_for(frame, both)) == [IN_SESSION, IN_SESSION, "daily", "daily", "daily"]
    assert set(policies_for(frame, ("daily",))) == {"daily"}
    assert set(policies_for(frame.drop(columns="hours_since_event"), both)) == {"daily"}
    assert policy_for(None, both) == "daily"
