"""Engines and the online features agree on real logs; cut-offs and labels are what is known of Taobao's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from retail_core import sources
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import local_day
from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.event_columns import OnlineEvent, event_from_document
from retail_core.features.feature_set import default_feature_set
from retail_core.features.online.online_interpreter import compute_user_features
from retail_core.features.prediction_task import PredictionTask
from retail_core.sources.event_reader import read_events
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.scratch_lake import scratch_lake
from retail_core.times import parse_instant
from tests.feature_logs import FolderLake, write_lake

pytestmark = [pytest.mark.realdata, pytest.mark.long]

TASK = PredictionTask(timezone="Asia/Shanghai")
TYPES = {"pv": "view_item", "cart": "add_to_cart", "fav": "add_to_wishlist", "buy": "purchase"}


@pytest.fixture(scope="module")
def taobao(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[FolderLake, list[OnlineEvent]]:
    names = ["user_id", "item_id", "category", "kind", "seconds"]
    path = shared_data / "taobao" / "UserBehavior_head.csv.gz"
    rows = pd.read_csv(path, names=names, dtype=str).dropna().drop_duplicates()
    rows = rows[rows["kind"].isin(TYPES) & rows["seconds"].str.fullmatch(r"\d{9,10}")]
    events = [
        OnlineEvent(
            f"{i:032x}", row.user_id, int(row.seconds) * 1_000_000, TYPES[row.kind], row.item_id, row.category
        )
        for i, row in enumerate(rows.itertuples())
    ]
    return write_lake(tmp_path_factory.mktemp("taobao"), events), events


def test_taobao_batch_equals_online(taobao: tuple[FolderLake, list[OnlineEvent]]) -> None:
    """To the bit, for 300 pairs of daily and arbitrary cut-offs."""
    lake, events = taobao
    feature_set = default_feature_set(TASK)
    plan = labelled_cutoffs(lake, TASK, parse_instant("2017-12-03T00:00:00+08:00"))
    pairs = daily_pairs(lake, TASK, plan.cutoffs).sample(200, random_state=7, ignore_index=True)
    odd = pairs.sample(100, random_state=8, ignore_index=True)
    odd["as_of"] += pd.to_timedelta(np.random.default_rng(9).integers(1, 86_400_000, len(odd)), unit="ms")
    all_pairs = pd.concat([pairs, odd.astype(pairs.dtypes.to_dict())], ignore_index=True)

    by_user: dict[str, list[OnlineEvent]] = defaultdict(list)
    for event in events:
        by_user[event.user_id].append(event)
    context = context_by_day(lake, TASK, {local_day(t, TASK) for t in all_pairs["as_of"].dt.to_pydatetime()})
    rows = [
        compute_user_features(by_user[user], as_of, feature_set, context=context[local_day(as_of, TASK)])
        for user, as_of in zip(all_pairs["user_id"], all_pairs["as_of"].dt.to_pydatetime(), strict=True)
    ]
    online = pd.DataFrame(rows, dtype="float64")

    batch = compute_features(lake, all_pairs, feature_set)
    pd.testing.assert_frame_equal(batch[list(online)], online, check_exact=True)
    daily = compute_features(lake, pairs, feature_set)
    pd.testing.assert_frame_equal(daily[list(online)], online.iloc[: len(pairs)], check_exact=True)


def test_taobao_cutoffs_and_base_rate(taobao: tuple[FolderLake, list[OnlineEvent]]) -> None:
    """Nine days, no gap; the strays outside them are not the log; 17 to 18 % of the active buy next day."""
    lake, _ = taobao
    plan = labelled_cutoffs(lake, TASK, parse_instant("2017-12-03T00:00:00+08:00"))
    assert plan.gaps == ()
    assert plan.first_day is not None
    assert plan.first_day.isoformat() == "2017-11-25"
    first = datetime(2017, 11, 26, 16, tzinfo=UTC)
    assert list(plan.cutoffs) == [first + timedelta(days=n) for n in range(6)]
    pairs = daily_pairs(lake, TASK, [plan.cutoffs[-1]])
    assert 0.16 < label_pairs(lake, TASK, pairs).mean() < 0.20


@pytest.mark.parametrize(
    ("folder", "cutoffs"),
    [
        ("taobao", ("2017-11-28T00:00", "2017-12-01T00:00", "2017-12-02T13:47")),
        ("online_retail", ("2011-03-31T00:00", "2011-11-25T00:00", "2011-12-08T12:30")),
    ],
)
def test_spark_equals_duckdb_equals_online(
    folder: str, cutoffs: tuple[str, ...], shared_data: Path, tmp_path: Path
) -> None:
    """Every pair of three cut-offs on both engines, and 150 of them online."""
    source = sources.get_preset(folder)
    files = sorted((shared_data / folder).iterdir())
    lake = scratch_lake((chunk for file in files for chunk in read_events(file, source)), tmp_path)
    task = PredictionTask(timezone=source.timezone)
    feature_set = default_feature_set(task)
    instants = [parse_instant(cutoff, source.timezone) for cutoff in cutoffs]
    context = context_by_day(lake, task, {local_day(t, task) for t in instants})
    pairs = daily_pairs(lake, task, instants)
    assert len(pairs) > 1_000

    duckdb = compute_features(lake, pairs, feature_set)
    with spark_ends():
        spark = compute_features(lake, pairs, feature_set, engine=EngineOptions("spark"))
    pd.testing.assert_frame_equal(spark, duckdb, rtol=0, atol=1e-9)

    some = pairs.sample(150, random_state=7)
    events_by_user = events_of(lake, some["user_id"].unique())
    rows = [
        compute_user_features(events_by_user[user], t, feature_set, context=context[local_day(t, task)])
        for user, t in zip(some["user_id"], some["as_of"].dt.to_pydatetime(), strict=True)
    ]
    online = pd.DataFrame(rows, some.index, dtype="float64")
    pd.testing.assert_frame_equal(duckdb.loc[some.index, list(online)], online, rtol=0, atol=1e-9)


@contextmanager
def spark_ends() -> Iterator[None]:
    """No session is left for the next test."""
    yield
    from pyspark.sql import SparkSession

    if active := SparkSession.getActiveSession():
        active.stop()


def events_of(lake: Lake, users: np.ndarray) -> dict[str, list[OnlineEvent]]:
    """All events of these users, as MongoDB would give them."""
    events_by_user: dict[str, list[OnlineEvent]] = defaultdict(list)
    for file in lake.files():
        rows = pq.read_table(file, filters=pc.field("user_id").isin(users))
        for row in rows.to_pylist():
            events_by_user[row["user_id"]].append(event_from_document(row))
    return events_by_user
