"""DuckDB, Spark and the online interpreter give the same numbers, to the bit where arithmetic is exact."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from retail_core.attribution import Link
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs, first_visit_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.times import from_micros
from tests.examples import examples
from tests.feature_logs import DAY, HOUR, logs, micros, pairs_of, with_links, write_lake

BASE = micros("2025-03-31T00:00+02:00")
CUTOFFS = [BASE - 23 * HOUR - DAY, BASE - 23 * HOUR, BASE, BASE + 12_345_000]
TASK = PredictionTask(timezone="Europe/Berlin")
SPARK = EngineOptions("spark")


pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("spark_session"), pytest.mark.long]


def of_shop(number: int, events: list[OnlineEvent]) -> list[OnlineEvent]:
    """The log with user and event ids of its own, so that many logs are one lake and one Spark query."""
    return [
        event._replace(user_id=f"{number}-{event.user_id}", event_id=f"{number:08x}{event.event_id[8:]}")
        for event in events
    ]


# Spark takes seconds per query: few examples, each of many logs, without shrinking.
@given(shops=st.lists(logs(BASE, TASK.lookback_days), min_size=25, max_size=25))
@settings(
    max_examples=examples(2),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_spark_equals_duckdb_equals_online(
    shops: list[list[OnlineEvent]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    events = [event for number, log in enumerate(shops) for event in of_shop(number, log)]
    lake = write_lake(tmp_path_factory.mktemp("lake"), events)
    pairs = pairs_of((f"{n}-{user}", t) for n in range(len(shops)) for user in "uvwx" for t in CUTOFFS)
    feature_set = default_feature_set(TASK)
    columns = list(feature_set.columns)

    spark = compute_features(lake, pairs, feature_set, engine=SPARK)[columns]
    duckdb = compute_features(lake, pairs, feature_set)[columns]
    events_of_user: dict[str, list[OnlineEvent]] = {}
    for event in events:
        events_of_user.setdefault(event.user_id, []).append(event)
    instants = pairs["as_of"].dt.to_pydatetime()
    context = context_by_day(lake, TASK, {local_day(t, TASK) for t in instants})
    online = pd.DataFrame(
        [
            compute_user_features(
                events_of_user.get(user, []), t, feature_set, context=context[local_day(t, TASK)]
            )
            for user, t in zip(pairs["user_id"], instants, strict=True)
        ],
        columns=columns,
        dtype="float64",
    )
    pd.testing.assert_frame_equal(spark, duckdb, rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(spark, online, rtol=0, atol=1e-9)


def test_spark_without_events(tmp_path_factory: pytest.TempPathFactory) -> None:
    lake = write_lake(tmp_path_factory.mktemp("lake"), [])
    feature_set = default_feature_set(TASK)
    rows = compute_features(lake, pairs_of([("nobody", BASE)]), feature_set, engine=SPARK)
    assert rows["event_count_28d"].tolist() == [0.0]
    assert rows["hours_since_event"].isna().all()


def test_spark_and_duckdb_resolve_the_same_persons(tmp_path_factory: pytest.TempPathFactory) -> None:
    kinds = ("view_item", "add_to_cart", "purchase")
    events = [
        OnlineEvent(
            f"{n:032x}",
            "uvwx"[n % 4],
            BASE - (n * 7 % 200) * HOUR,
            kinds[n % 3],
            "abc"[n % 3],
            None,
            None,
            99,
        )
        for n in range(120)
    ]
    days = {"u": ("v", 3), "w": ("v", 2), "v": ("y", 1)}
    links = [Link(source, target, BASE - ago * DAY) for source, (target, ago) in days.items()]
    lake = with_links(
        write_lake(tmp_path_factory.mktemp("lake"), events), [*links, Link("w", "x", BASE - DAY)]
    )
    cutoffs = [from_micros(BASE - n * DAY) for n in range(5)]
    pairs = daily_pairs(lake, TASK, cutoffs)
    assert set(pairs["user_id"]) == {"u", "v", "w", "x", "y"}
    pd.testing.assert_frame_equal(daily_pairs(lake, TASK, cutoffs, SPARK), pairs)
    visits = first_visit_pairs(lake, cutoffs[0])
    pd.testing.assert_frame_equal(first_visit_pairs(lake, cutoffs[0], SPARK), visits)
    labels = label_pairs(lake, TASK, pairs)
    pd.testing.assert_series_equal(label_pairs(lake, TASK, pairs, engine=SPARK), labels)
    features = default_feature_set(TASK).select(["event_count_28d", "cart_count", "spend_28d"])
    rows = compute_features(lake, pairs, features, engine=SPARK)
    pd.testing.assert_frame_equal(rows, compute_features(lake, pairs, features), rtol=0, atol=1e-9)
