"""Context features equal a direct computation of their definition from days before the cut-off's."""

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
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import classify_silent_days
from retail_core.times import from_micros, zone
from tests.examples import examples
from tests.feature_logs import DAY, HOUR, micros, pairs_of, write_lake

TASK = PredictionTask(eligible_days=3, timezone="Europe/Berlin")
"""Sparse logs: some of their silent runs are outages, which the features leave out."""
AS_OF = micros("2025-04-09T00:00+02:00")
DAYS = [date(2025, 4, 9), date(2025, 4, 8), date(2025, 4, 1)]
ONE_DAY = timedelta(days=1)

Log = list[OnlineEvent]


@st.composite
def shop_logs(draw: st.DrawFn) -> Log:
    """Six users over ten weeks across a clock change; Sundays often have no events."""
    acts = st.tuples(
        st.sampled_from("uvwxyz"),
        st.integers(-DAY // HOUR * 3, 70 * DAY // HOUR),
        st.sampled_from(["view_item", "purchase"]),
    )
    log = [
        OnlineEvent(f"{i:032x}", user, AS_OF - hours * HOUR, kind)
        for i, (user, hours, kind) in enumerate(draw(st.lists(acts, max_size=150)))
    ]
    open_on_sundays = draw(st.booleans())
    return [e for e in log if open_on_sundays or day_of(e).weekday() != 6]


def day_of(event: OnlineEvent) -> date:
    return from_micros(event.event_time).astimezone(zone("Europe/Berlin")).date()


def mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else math.nan


def expected_measures(log: Log, day: date) -> dict[str, float]:
    """The measures, each computed directly from its definition."""
    users = {}
    for event in log:
        users.setdefault(day_of(event), []).append(event)
    days_with_events = [d for d in users if day - CONTEXT_DAYS * ONE_DAY <= d < day]
    if not days_with_events:
        return dict.fromkeys((name for name, *_ in CONTEXT_MEASURES), math.nan)
    first = min(days_with_events)
    calendar = [first + n * ONE_DAY for n in range((day - first).days)]
    active = {d: len({e.user_id for e in users[d]}) for d in calendar if d in users}
    outages = classify_silent_days(calendar, active, TASK.quiet_days).outages
    past = [d for d in calendar if d not in outages]

    def buyers(d: date) -> set[str]:
        return {e.user_id for e in users.get(d, []) if e.event_type == "purchase"}

    def eligible(d: date) -> set[str]:
        return {e.user_id for n in (1, 2, 3) for e in users.get(d - n * ONE_DAY, [])}

    def rate(days: list[date]) -> float:
        total = sum(len(eligible(d)) for d in days)
        return sum(len(buyers(d) & eligible(d)) for d in days) / total if total else math.nan

    def divided(a: float, b: float) -> float:
        return a / b if b else math.nan

    def same_weekday_before(end: date) -> list[date]:
        return [d for d in past if d.weekday() == end.weekday() and d < end]

    same_weekday, yesterday = same_weekday_before(day), calendar[-1]
    weekdays = [d for d in calendar if d.weekday() == day.weekday()]
    silent = [d for d in weekdays if d not in users]
    buyers_yesterday = math.nan if yesterday in outages else len(buyers(yesterday))
    return {
        "buyers_yesterday": buyers_yesterday,
        "buyers_usual": mean([len(buyers(d)) for d in same_weekday]),
        "rate_usual": rate(same_weekday),
        "rate_recent": rate([d for d in calendar[-7:] if d in past]),
        "weekday_index": divided(rate(same_weekday), rate(past)),
        "demand_yesterday": divided(
            buyers_yesterday, mean([len(buyers(d)) for d in same_weekday_before(yesterday)])
        ),
        "closed": float(len(weekdays) >= 3 and 2 * len(silent) > len(weekdays)),
    }


@given(log=shop_logs(), several_days=st.booleans())
@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
def test_context_features_equal_their_definition(
    log: Log, several_days: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also for several days at once, and where the log holds no event of the day itself."""
    lake = write_lake(tmp_path_factory.mktemp("lake"), log)
    before = write_lake(
        tmp_path_factory.mktemp("lake") / "day=2025-01-01", [e for e in log if day_of(e) < DAYS[-1]]
    )
    computed = context_by_day(lake, TASK, DAYS if several_days else DAYS[-1:])
    for day, values in computed.items():
        expected = expected_measures(log, day)
        assert {n: values.get(n, math.nan) for n in expected} == pytest.approx(expected, nan_ok=True, abs=0)
    alone = context_by_day(before, TASK, DAYS[-1:])[DAYS[-1]]
    np.testing.assert_equal(dict(alone), dict(computed[DAYS[-1]]))


def test_every_cutoff_of_a_day_has_the_same_context(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Batch and online, at midnight, during the day and for a user without events; null without context."""
    names = tuple(name for name in expand_definitions(TASK) if name.startswith("shop_"))
    assert names == tuple(f"shop_{name}" for name, *_ in CONTEXT_MEASURES)
    feature_set = FeatureSet(TASK, names)
    log = [OnlineEvent(f"{i:032x}", "uv"[i % 2], AS_OF - i * 9 * HOUR, "purchase") for i in range(1, 150)]
    lake = write_lake(tmp_path_factory.mktemp("lake"), log)
    pairs = pairs_of(
        [("u", AS_OF), ("u", AS_OF + 15 * HOUR), ("nobody", AS_OF + DAY - 1000), ("u", AS_OF + DAY)]
    )
    rows = compute_features(lake, pairs, feature_set)[list(names)]
    assert rows.iloc[0].equals(rows.iloc[1])
    assert rows.iloc[0].equals(rows.iloc[2])
    assert not rows.iloc[0].equals(rows.iloc[3])
    assert not rows.isna().any(axis=None)
    moment = datetime.fromisoformat("2025-04-09T15:00+02:00")
    context = context_by_day(lake, TASK, [local_day(moment, TASK)])[date(2025, 4, 9)]
    assert compute_user_features([], moment, feature_set, context=context) == rows.iloc[0].to_dict()
    assert set(compute_user_features([], moment, feature_set).values()) == {None}
    assert compute_features(lake, pairs, feature_set, context={})[list(names)].isna().all(axis=None)
