"""Figures agree with scikit-learn under any weights; intervals resample users; the card says it all."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.calibration import logit
from retail_core.model.evaluation.metrics import ScoredRows, WeightedMetrics, evaluate, metric_intervals
from retail_core.model.evaluation.segments import compare_with_rules, metrics_by_day, metrics_by_segment
from retail_core.model.feature_matrix import MISSING
from retail_core.model.spec import ModelSpec
from retail_core.registry.model_card import METRIC_TITLES, model_card


def rows_of(size: int, seed: int, per_user: int = 4) -> ScoredRows:
    rng = np.random.default_rng(seed)
    promised = rng.beta(1.0, 15.0, size)
    users = pd.Series([f"u{one}" for one in np.arange(size) // per_user])
    return ScoredRows(users, rng.random(size) < promised, promised, promised)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_figures_are_scikit_learns_under_any_weights(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 40))
    score = np.array(data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))) / 10
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    labels = np.arange(size) % 2 == 0
    weights[:2] = 1
    found = WeightedMetrics(ScoredRows(pd.Series(["u"] * size), labels, score, score), 0.5)(weights)
    assert found["ap"] == pytest.approx(average_precision_score(labels, score, sample_weight=weights))
    assert found["auc"] == pytest.approx(roc_auc_score(labels, score, sample_weight=weights))
    assert found["brier"] == pytest.approx(np.average((score - labels) ** 2, weights=weights))
    repeated = np.repeat(np.arange(size), weights)
    chosen, bought = score[repeated] >= 0.5, labels[repeated]
    assert found["recall"] == pytest.approx((chosen & bought).sum() / bought.sum())


def test_lift_recall_and_slope() -> None:
    rows = rows_of(40_000, 1)
    found = evaluate(rows, 0.2)
    best = np.argsort(-rows.raw)[:4_000]
    assert found["lift_at_10"] == pytest.approx(rows.labels[best].mean() / rows.labels.mean())
    assert found["recall_at_10"] == pytest.approx(rows.labels[best].sum() / rows.labels.sum())
    assert found["slope"] == pytest.approx(1, abs=0.06)
    assert found["ece"] < 0.006
    spread = ScoredRows(rows.users, rows.labels, rows.raw, 1 / (1 + np.exp(-2 * logit(rows.probability))))
    exact = LogisticRegression(C=1e6).fit(logit(spread.probability)[:, None], rows.labels).coef_[0, 0]
    assert evaluate(spread, 0.2)["slope"] == pytest.approx(exact, rel=0.05)
    assert exact == pytest.approx(0.5, abs=0.05)


def test_without_both_answers_nothing_is_made_up() -> None:
    rows = rows_of(50, 2)
    nobody = ScoredRows(rows.users, np.zeros(50, bool), rows.raw, rows.probability)
    found = evaluate(nobody, 0.5)
    assert (found["ap"], found["auc"], found["lift_at_1"], found["slope"]) == (None,) * 4
    assert found["recall"] == 0
    assert "ap" not in metric_intervals(nobody, 0.5, 1)


def test_intervals_hold_the_value_and_widen_where_rows_repeat_users() -> None:
    alone, crowded = rows_of(4_000, 3, per_user=1), rows_of(4_000, 3, per_user=200)
    values = evaluate(alone, 0.2)
    narrow, wide = metric_intervals(alone, 0.2, 5), metric_intervals(crowded, 0.2, 5)
    for name in ("ap", "auc", "brier", "slope", "lift_at_10"):
        assert narrow[name][0] <= values[name] <= narrow[name][1]
    assert metric_intervals(alone, 0.2, 5) == narrow
    copied = ScoredRows(
        crowded.users, *(np.repeat(one[:400], 10) for one in (crowded.labels, *[crowded.raw] * 2))
    )
    assert np.ptp(metric_intervals(copied, 0.2, 5)["ap"]) > 1.5 * np.ptp(wide["ap"])


def looked_at(rows: ScoredRows) -> dict[str, object]:
    size = len(rows.labels)
    features = pd.DataFrame(
        {
            "cart_count": np.where(rows.labels, 2.0, 0.0).astype(np.float32),
            "hours_since_first_event": np.where(np.arange(size) % 2, 400, MISSING).astype(np.float32),
            "attr_sex=f": (np.arange(size) % 3 == 0).astype(np.float32),
        }
    )
    days = pd.Series(np.where(np.arange(size) < size // 2, "2025-01-02", "2025-01-01"))
    return {
        "intervals": {name: list(one) for name, one in metric_intervals(rows, 0.2, 1).items()},
        "segments": metrics_by_segment(rows, features, 0.1),
        "days": metrics_by_day(rows, days, 0.1),
        "rules": compare_with_rules(rows, features, 1),
    }


def test_segments_days_and_rules() -> None:
    rows = rows_of(2_000, 4)
    found = looked_at(rows)
    segments = found["segments"]
    assert set(segments) == {
        "known users",
        "new users",
        "with an open cart",
        "without an open cart",
        "sex: f",
    }
    assert segments["known users"]["n"] == segments["new users"]["n"] == 1_000
    assert segments["with an open cart"]["base_rate"] == 1
    assert segments["with an open cart"]["ap"] is None
    assert [one["day"] for one in found["days"]] == ["2025-01-01", "2025-01-02"]
    assert sum(one["positives"] for one in found["days"]) == rows.labels.sum()
    rule = found["rules"]["open cart"]
    assert rule["ap"] == 1
    assert rule["high"] < 0, "this cart knows the answer"


def test_the_card_names_population_period_figures_and_limits() -> None:
    rows = rows_of(2_000, 4)
    metrics = evaluate(rows, 0.2) | {
        "population": "users with an event in the 7 days before the cut-off",
        "first_cutoff": "2025-02-01T00:00:00Z",
        "last_cutoff": "2025-02-05T00:00:00Z",
    }
    lead = {"ap": 0.2, "lead": 0.01, "low": -0.01, "high": 0.03}
    spec = ModelSpec(
        version="3",
        run_id="r",
        trained_at=datetime(2025, 3, 1, tzinfo=UTC),
        feature_set=default_feature_set(PredictionTask()),
        policies=("daily",),
        thresholds={"daily": {"f1": 0.2, "contact": 0.01}},
        certificates={"daily": None},
        reasons={"daily": "too few buyers"},
        metrics={"daily": metrics},
        reference={},
        data={"data_hash": "d1", "as_of": "2025-03-01T00:00:00Z", "events": 9, "rows": 8},
        training={"family": "rf", "best_params": {"max_depth": 8}, "search": {"compared": {"rf": lead}}},
        evaluation={"daily": looked_at(rows)},
    )
    card = model_card(spec)
    for told in (
        *METRIC_TITLES.values(),
        "version 3",
        "base rate",
        "too few buyers",
        "sex: f",
        "2025-01-01",
        "d1",
    ):
        assert told in card
    assert "+0.0100 (-0.0100 to +0.0300)" in card
    assert "None" not in card
    assert "nan" not in card
