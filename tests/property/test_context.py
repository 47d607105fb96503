"""Context features: what a plain reading of their meaning gives, from whole days before the cut-off's."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import CONTEXT_DAYS, CONTEXT_MEASURES, local_day
from retail_core.features.definitions import expand_definitions
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.event_columns import OnlineEvent
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros, zone
from tests.feature_logs import DAY, HOUR, micros, pairs_of, write_lake

QUESTION = PredictionTask(eligible_days=3, timezone="Europe/Berlin")
NOW = micros("2025-04-09T00:00+02:00")
DAYS = [date(2025, 4, 9), date(2025, 4, 8), date(2025, 4, 1)]
ONE = timedelta(days=1)

Log = list[OnlineEvent]


@st.composite
def shop_logs(draw: st.DrawFn) -> Log:
    """Six users over ten weeks across a clock change; Sundays are often silent."""
    acts = st.tuples(
        st.sampled_from("uvwxyz"),
        st.integers(-DAY // HOUR * 3, 70 * DAY // HOUR),
        st.sampled_from(["view_item", "purchase"]),
    )
    log = [
        OnlineEvent(f"{i:032x}", user, NOW - hours * HOUR, kind)
        for i, (user, hours, kind) in enumerate(draw(st.lists(acts, max_size=150)))
    ]
    open_on_sundays = draw(st.booleans())
    return [e for e in log if open_on_sundays or day_of(e).weekday() != 6]


def day_of(event: OnlineEvent) -> date:
    return from_micros(event.event_time).astimezone(zone("Europe/Berlin")).date()


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


def plainly(log: Log, day: date) -> dict[str, float]:
    """The measures, each from its meaning; every user is asked about on every day."""
    users = {}
    for event in log:
        users.setdefault(day_of(event), []).append(event)
    seen = [d for d in users if day - CONTEXT_DAYS * ONE <= d < day]
    if not seen:
        return dict.fromkeys((name for name, *_ in CONTEXT_MEASURES), math.nan)
    past = [min(seen) + n * ONE for n in range((day - min(seen)).days)]

    def buyers(d: date) -> set[str]:
        return {e.user_id for e in users.get(d, []) if e.event_type == "purchase"}

    def eligible(d: date) -> set[str]:
        return {e.user_id for n in (1, 2, 3) for e in users.get(d - n * ONE, [])}

    def rate(days: list[date]) -> float:
        asked = sum(len(eligible(d)) for d in days)
        return sum(len(buyers(d) & eligible(d)) for d in days) / asked if asked else math.nan

    def divided(a: float, b: float) -> float:
        return a / b if b else math.nan

    def alike(other: date) -> list[date]:
        return [d for d in past if d.weekday() == other.weekday() and d < other]

    same, yesterday = alike(day), past[-1]
    silent = [d for d in same if d not in users]
    return {
        "buyers_yesterday": len(buyers(yesterday)),
        "buyers_usual": mean([len(buyers(d)) for d in same]),
        "rate_usual": rate(same),
        "rate_recent": rate(past[-7:]),
        "weekday_index": divided(rate(same), rate(past)),
        "demand_yesterday": divided(len(buyers(yesterday)), mean([len(buyers(d)) for d in alike(yesterday)])),
        "closed": float(len(same) >= 3 and 2 * len(silent) > len(same)),
    }


@given(log=shop_logs(), together=st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_they_mean_what_they_say(log: Log, together: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also when several days are asked for at once, and when nothing of the day itself is known."""
    lake = write_lake(tmp_path_factory.mktemp("lake"), log)
    before = write_lake(
        tmp_path_factory.mktemp("lake") / "day=2025-01-01", [e for e in log if day_of(e) < DAYS[-1]]
    )
    found = context_by_day(lake, QUESTION, DAYS if together else DAYS[-1:])
    for day, values in found.items():
        expected = plainly(log, day)
        assert {n: values.get(n, math.nan) for n in expected} == pytest.approx(expected, nan_ok=True, abs=0)
    alone = context_by_day(before, QUESTION, DAYS[-1:])[DAYS[-1]]
    np.testing.assert_equal(dict(alone), dict(found[DAYS[-1]]))


def test_every_cutoff_of_a_day_sees_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Batch and online, at midnight, during the day and for a user without events; null without a shop."""
    names = tuple(name for name in expand_definitions(QUESTION) if name.startswith("shop_"))
    assert names == tuple(f"shop_{name}" for name, *_ in CONTEXT_MEASURES)
    feature_set = FeatureSet(QUESTION, names)
    log = [OnlineEvent(f"{i:032x}", "uv"[i % 2], NOW - i * 9 * HOUR, "purchase") for i in range(1, 150)]
    lake = write_lake(tmp_path_factory.mktemp("lake"), log)
    pairs = pairs_of([("u", NOW), ("u", NOW + 15 * HOUR), ("nobody", NOW + DAY - 1000), ("u", NOW + DAY)])
    rows = compute_features(lake, pairs, feature_set)[list(names)]
    assert rows.iloc[0].equals(rows.iloc[1])
    assert rows.iloc[0].equals(rows.iloc[2])
    assert not rows.iloc[0].equals(rows.iloc[3])
    assert not rows.isna().any(axis=None)
    moment = datetime.fromisoformat("2025-04-09T15:00+02:00")
    known = context_by_day(lake, QUESTION, [local_day(moment, QUESTION)])[date(2025, 4, 9)]
    assert compute_user_features([], moment, feature_set, context=known) == rows.iloc[0].to_dict()
    assert set(compute_user_features([], moment, feature_set).values()) == {None}
    assert compute_features(lake, pairs, feature_set, shop={})[list(names)].isna().all(axis=None)
