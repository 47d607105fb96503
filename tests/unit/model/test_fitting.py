"""Each cut-off policy with enough buyers has a ranker fitted on its own rows, in every use of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from retail_core.arrays import Float32Array
from retail_core.errors import DataError
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.explanations.reasons import explain_rows
from retail_core.model.families import RankerConfig
from retail_core.model.fitting import (
    MIN_OWN_BUYERS,
    FitPlan,
    fit_ranker,
    policies_with_own_ranker,
    raw_scores,
)
from retail_core.model.onnx_scorers import export_scorers, load_scorers
from retail_core.model.sampling import Sampling
from retail_core.model.served_model import ServedModel

LOGISTIC, FOREST = (
    RankerConfig("logistic", {"C": 1.0}),
    RankerConfig("rf", {"n_estimators": 5, "max_depth": 3, "min_samples_leaf": 5}),
)
ALL_ROWS = Sampling(1.0, 1.0)
POLICIES = ("daily", "in-session")
FEATURES = default_feature_set(PredictionTask()).select(["cart_count"])
LARGE_VALUE = np.array([[3.0]], np.float32)


def rows_of(buyers: dict[str, int]) -> tuple[pd.DataFrame, Float32Array]:
    """300 rows per policy with that many buyers; on `daily` large values buy, elsewhere small ones."""
    frames, matrices = [], []
    for number, (policy, count) in enumerate(buyers.items()):
        value = np.random.default_rng(number).normal(size=300)
        order = np.argsort(-value if policy == "daily" else value)
        labels = np.zeros(300, bool)
        labels[order[:count]] = True
        frames.append(pd.DataFrame({"policy": policy, "label": labels}))
        matrices.append(value[:, None].astype(np.float32))
    return pd.concat(frames, ignore_index=True), np.concatenate(matrices)


def fitted(buyers: dict[str, int], config: RankerConfig = LOGISTIC) -> CalibratedRanker:
    rows, matrix = rows_of(buyers)
    return fit_ranker(
        rows, matrix, ALL_ROWS, FitPlan(config, 1, tuple(buyers), policies_with_own_ranker(rows))
    )


def test_policies_with_opposite_effects_have_separate_rankers() -> None:
    model = fitted({"daily": 60, "in-session": 60})
    assert model.primary == "daily"
    assert model.raw_score(LARGE_VALUE, "daily")[0] > 0.9
    assert model.raw_score(LARGE_VALUE, "in-session")[0] < 0.1
    assert model.raw_score(LARGE_VALUE)[0] == model.raw_score(LARGE_VALUE, "daily")[0]


def test_each_row_is_scored_by_the_ranker_of_its_policy() -> None:
    model, (rows, matrix) = (build({"daily": 60, "in-session": 60}) for build in (fitted, rows_of))
    shuffled = np.random.default_rng(5).permutation(len(rows))
    rows, matrix = rows.iloc[shuffled].reset_index(drop=True), matrix[shuffled]
    raw = raw_scores(model, rows, matrix)
    for policy in POLICIES:
        of_policy = rows["policy"].eq(policy).to_numpy(bool)
        assert np.array_equal(raw[of_policy], model.raw_score(matrix[of_policy], policy))


def test_policy_with_too_few_buyers_is_fitted_on_all_rows() -> None:
    buyers = {"daily": 60, "in-session": MIN_OWN_BUYERS - 1}
    model, (rows, matrix) = fitted(buyers), rows_of(buyers)
    shared = fit_ranker(rows, matrix, ALL_ROWS, FitPlan(LOGISTIC, 1, POLICIES, frozenset()))
    assert policies_with_own_ranker(rows) == {"daily"}
    assert np.array_equal(model.raw_score(matrix, "in-session"), shared.raw_score(matrix))
    assert not np.array_equal(model.raw_score(matrix), shared.raw_score(matrix))


@pytest.mark.parametrize("missing", ["no row", "no buyer"])
def test_policy_without_rows_or_buyers_gets_the_shared_ranker(missing: str) -> None:
    rows, matrix = rows_of({"daily": 60, "in-session": 60})
    plan = FitPlan(LOGISTIC, 1, POLICIES, frozenset(POLICIES))
    removed = rows["policy"].eq("in-session") & (rows["label"] | (missing == "no row"))
    present = ~removed.to_numpy(bool)
    model = fit_ranker(rows[present], matrix[present], ALL_ROWS, plan)
    shared = fit_ranker(rows[present], matrix[present], ALL_ROWS, replace(plan, own_rankers=frozenset()))
    assert np.array_equal(model.raw_score(matrix, "in-session"), shared.raw_score(matrix))


@pytest.mark.parametrize("rows", [0, 40])
def test_rows_of_one_class_are_refused(rows: int) -> None:
    frame = pd.DataFrame({"policy": ["daily"] * rows, "label": np.zeros(rows, bool)})
    with pytest.raises(DataError, match="the same answer"):
        fit_ranker(
            frame, np.zeros((rows, 1), np.float32), ALL_ROWS, FitPlan(LOGISTIC, 1, ("daily",), frozenset())
        )


@pytest.mark.parametrize("config", [LOGISTIC, FOREST])
def test_served_model_predicts_and_explains_by_policy(config: RankerConfig, tmp_path: Path) -> None:
    model = fitted({"daily": 60, "in-session": 60}, config)
    rows, matrix = rows_of({"daily": 60, "in-session": 60})
    labels, raw = rows["label"].to_numpy(bool), raw_scores(model, rows, matrix)
    model.calibrators = {
        policy: fit_calibrator(raw[rows["policy"] == policy], labels[rows["policy"] == policy])
        for policy in POLICIES
    }
    export_scorers(model, tmp_path)
    spec = cast("Any", type("Spec", (), {"policies": POLICIES, "primary": "daily"}))
    spec.training = {}
    spec.thresholds = {policy: {"f1": 0.5, "contact": 0.5} for policy in POLICIES}
    for scorers in ({}, load_scorers(tmp_path)):
        served = ServedModel(spec, model, scorers)
        predictions = {
            policy: served.predict_rows(LARGE_VALUE.astype(np.float64), policy) for policy in POLICIES
        }
        assert predictions["daily"].contact[0]
        assert not predictions["in-session"].contact[0]
        assert predictions["in-session"].raw_score[0] == model.raw_score(LARGE_VALUE, "in-session")[0]
    explained = explain_rows(model, FEATURES, np.repeat(LARGE_VALUE, 2, axis=0), POLICIES)
    assert [reasons[0].effect for reasons in explained] == ["raises", "lowers"]
