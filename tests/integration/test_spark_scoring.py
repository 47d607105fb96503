"""The model applied on Spark's executors says what it says in this process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retail_core.features.batch.attribute_columns import infer_attributes
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.event_columns import OnlineEvent
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families.random_forest import build_forest
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.scoring.list_predictions import predict_features
from retail_core.scoring.spark_scores import score_on_spark
from retail_core.times import to_micros
from tests.feature_logs import MINUTE, FolderLake, write_lake

AS_OF = datetime(2025, 3, 1, tzinfo=UTC)
pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("spark_session"), pytest.mark.long]


@pytest.fixture
def lake(tmp_path: Path) -> FolderLake:
    rng = np.random.default_rng(5)
    kinds = ("view_item", "add_to_cart", "purchase")
    events = [
        OnlineEvent(
            f"{i:032x}", f"u{rng.integers(60)}", to_micros(AS_OF) - int(rng.integers(1, 12_000)) * MINUTE,
            kinds[rng.choice(3, p=(0.7, 0.2, 0.1))], f"i{rng.integers(9)}", "c", None, 199,
        )
        for i in range(1_500)
    ]  # fmt: skip
    valid_from = AS_OF - timedelta(days=30)
    users = [
        {"user_id": f"u{n}", "valid_from": valid_from, "attributes": f'{{"age": {20 + n % 7}}}'}
        for n in range(50)
    ]
    return write_lake(tmp_path, events, users)


def fitted(lake: FolderLake) -> ServedModel:
    """A small forest on real features; what it learns does not matter here."""
    task = PredictionTask()
    feature_set = default_feature_set(task, infer_attributes(lake, AS_OF))
    assert "attr_age" in feature_set.columns
    pairs = daily_pairs(lake, task, [AS_OF - timedelta(days=n) for n in range(1, 4)])
    frame = compute_features(lake, pairs, feature_set)[list(feature_set.columns)]
    labels = (frame["event_count_28d"] * 7 % 5 > 2).to_numpy(bool)
    forest = build_forest(trees=10, depth=4, leaf=5, seed=1)
    model = CalibratedRanker({"daily": forest}).fit(frame, labels)
    model.calibrators = {"daily": fit_calibrator(model.raw_score(frame), labels)}
    spec = ModelSpec(
        version="1", run_id="r", trained_at=AS_OF, feature_set=feature_set, policies=("daily",),
        thresholds={"daily": {"f1": 0.5, "contact": 0.2}}, certificates={"daily": None},
        reasons={"daily": None}, metrics={"daily": {}}, reference={}, data={},
    )  # fmt: skip
    return ServedModel(spec, model)


def test_scores_on_spark_are_the_local_ones(lake: FolderLake, tmp_path: Path) -> None:
    served = fitted(lake)
    out = tmp_path / "scores.parquet"
    report = score_on_spark(lake, served, EngineOptions("spark"), as_of=AS_OF, out=str(out))
    pairs = daily_pairs(lake, PredictionTask(), [AS_OF])
    local = predict_features(served, compute_features(lake, pairs, served.spec.feature_set))
    written = pd.read_parquet(out).sort_values("user_id", ignore_index=True)
    assert report.users == len(local) > 40
    assert local["probability"].nunique() > 5
    expected = local.sort_values("user_id", ignore_index=True)[list(written)]
    pd.testing.assert_frame_equal(written, expected, check_dtype=False, check_exact=True)
