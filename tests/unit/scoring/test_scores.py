"""Predictions of feature rows by cut-off policy, and their rank."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from retail_core.errors import InputError
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families.random_forest import build_forest
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.schemas import TIME_DTYPE
from retail_core.scoring.list_predictions import predict_features, rank_predictions

AS_OF = datetime(2025, 1, 29, tzinfo=UTC)
FEATURES = default_feature_set(PredictionTask())
POLICIES = ("daily", "in-session")


@pytest.fixture(scope="module")
def served() -> ServedModel:
    """A model of random rows whose two policies are calibrated on different base rates."""
    rng = np.random.default_rng(3)
    rows = rng.gamma(1.0, 2.0, (400, len(FEATURES.columns)))
    buyers = rows[:, 0] > 3
    forest = build_forest(trees=5, depth=4, leaf=5, seed=1).fit(rows, buyers)
    model = CalibratedRanker(dict.fromkeys(POLICIES, forest))
    raw = model.raw_score(rows)
    model.calibrators = {
        "daily": fit_calibrator(raw, buyers),
        "in-session": fit_calibrator(raw, buyers | (rng.random(len(buyers)) < 0.5)),
    }
    spec = ModelSpec(
        version="4", run_id="r", trained_at=AS_OF, feature_set=FEATURES, policies=POLICIES,
        thresholds={policy: {"f1": 0.5, "contact": 0.2} for policy in POLICIES},
        certificates=dict.fromkeys(POLICIES), reasons=dict.fromkeys(POLICIES),
        metrics={policy: {} for policy in POLICIES}, reference={}, data={},
    )  # fmt: skip
    return ServedModel(spec, model)


def feature_rows(count: int, seed: int = 5) -> pd.DataFrame:
    rows = np.random.default_rng(seed).gamma(1.0, 2.0, (count, len(FEATURES.columns)))
    frame = pd.DataFrame(rows, columns=list(FEATURES.columns))
    frame["user_id"] = pd.Series([f"u{number}" for number in range(count)], dtype="str")
    return frame.assign(as_of=pd.Series(pd.Timestamp(AS_OF), index=frame.index).astype(TIME_DTYPE))


def test_each_row_is_predicted_by_its_policy(served: ServedModel) -> None:
    rows = feature_rows(20)
    policies = pd.Series([POLICIES[number % 2] for number in range(20)], index=rows.index, dtype="str")
    predictions = predict_features(served, rows, policies)
    assert predictions["policy"].tolist() == policies.tolist()
    assert set(predictions["model_version"]) == {"4"}
    for policy in POLICIES:
        alone = served.predict(rows[policies == policy], policy)
        pd.testing.assert_series_equal(predictions["probability"][policies == policy], alone["probability"])
    assert not predictions.equals(predict_features(served, rows, policies.replace("in-session", "daily")))


def test_a_missing_feature_is_refused_or_null(served: ServedModel) -> None:
    rows = feature_rows(3)
    name = FEATURES.columns[0]
    policies = pd.Series("daily", index=rows.index, dtype="str")
    with pytest.raises(InputError, match=name):
        predict_features(served, rows.drop(columns=name), policies)
    without_column = predict_features(served, rows.drop(columns=name), policies, complete=False)
    pd.testing.assert_frame_equal(
        without_column, predict_features(served, rows.assign(**{name: np.nan}), policies)
    )


def test_rank_is_by_probability_then_raw_score_then_user_id(served: ServedModel) -> None:
    rows = feature_rows(4)
    predictions = predict_features(served, rows, pd.Series("daily", index=rows.index, dtype="str"))
    ties = predictions.assign(probability=[0.1, 0.9, 0.1, 0.1], raw_score=[0.2, 0.5, 0.3, 0.2])
    ranked = rank_predictions([ties.iloc[2:], ties.iloc[:2]])
    assert ranked["user_id"].tolist() == ["u1", "u2", "u0", "u3"]
    assert ranked["rank"].tolist() == [1, 2, 3, 4]
