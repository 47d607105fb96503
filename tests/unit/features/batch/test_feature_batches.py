"""Features in parts equal those of all pairs at once, whatever the sizes of partitions and batches."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from retail_core.features.batch import batch_interpreter
from retail_core.features.batch.batch_interpreter import compute_features, feature_batches
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.user_attributes import AttributeEncoding
from tests.benchmarks.scale_shop import END, ShopSize, day_events, history, midnight
from tests.feature_logs import DAY, FolderLake, pairs_of

TASK = PredictionTask()
CUTOFFS = [int(midnight(END).timestamp()) * 1_000_000 - n * DAY for n in range(3)]
ATTRIBUTES = (AttributeEncoding("age", "number"),)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> FolderLake:
    """Twelve days of a shop of some hundred users, half of them with an attribute."""
    folder = tmp_path_factory.mktemp("lake")
    events = pa.concat_tables(day_events(ShopSize(arrivals=20), day) for day in history(12))
    pa.parquet.write_table(events, folder / "events.parquet")
    users = pa.compute.unique(events["user_id"]).to_pylist()[::2]
    ages = [f'{{"age": {number % 50}}}' for number in range(len(users))]
    valid_from = pa.array([CUTOFFS[-1] - DAY] * len(users), pa.timestamp("us", tz="UTC"))
    table = pa.table({"user_id": users, "valid_from": valid_from, "attributes": ages})
    pa.parquet.write_table(table, folder / "users.parquet")
    return FolderLake(folder / "events.parquet", folder / "users.parquet")


@pytest.fixture(scope="module")
def pairs(lake: FolderLake) -> pd.DataFrame:
    """All users and one without events, at three midnights, in random order under an index of their own."""
    users = [*pd.read_parquet(lake.events)["user_id"].unique(), "nobody"]
    rows = pairs_of((user, cutoff) for cutoff in CUTOFFS for user in users)
    return rows.sample(frac=1, random_state=3).set_index(np.arange(len(rows)) + 100)


@pytest.mark.parametrize("batch_rows", [17, 10**6])
@pytest.mark.parametrize("partition_events", [300, 10**6])
@pytest.mark.parametrize(
    "feature_set",
    [default_feature_set(TASK, ATTRIBUTES), FeatureSet(TASK, (), ATTRIBUTES)],
    ids=["all features", "attributes only"],
)
def test_batches_are_the_rows_of_compute_features(
    lake: FolderLake,
    pairs: pd.DataFrame,
    feature_set: FeatureSet,
    partition_events: int,
    batch_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = compute_features(lake, pairs, feature_set)
    engine_module = import_module("retail_core.features.engine.duckdb_engine")
    monkeypatch.setattr(engine_module, "PARTITION_EVENTS", partition_events)
    monkeypatch.setattr(batch_interpreter, "BATCH_ROWS", batch_rows)

    batches = list(feature_batches(lake, pairs, feature_set))

    assert max(map(len, batches)) <= batch_rows
    pd.testing.assert_frame_equal(pd.concat(batches).loc[pairs.index], expected)


def test_no_pairs_have_no_batch(lake: FolderLake, pairs: pd.DataFrame) -> None:
    assert not list(feature_batches(lake, pairs.iloc[:0], default_feature_set(TASK)))
