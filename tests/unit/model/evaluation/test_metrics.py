"""Metrics equal those of scikit-learn under any weights; intervals come from resampling users."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from retail_core.model.calibration import logit
from retail_core.model.evaluation.metrics import (
    ScoredRows,
    WeightedMetrics,
    WeightedRanking,
    evaluate,
    metric_intervals,
)
from tests.examples import examples
from tests.scored_rows import detail_metrics, scored_rows


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_metrics_equal_scikit_learn_under_any_weights(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 40))
    score = np.array(data.draw(st.lists(st.integers(1, 9), min_size=size, max_size=size))) / 10
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)))
    labels = np.arange(size) % 2 == 0
    weights[:2] = 1
    metrics = WeightedMetrics(ScoredRows(pd.Series(["u"] * size), labels, score, score), 0.5)(weights)
    assert metrics["ap"] == pytest.approx(average_precision_score(labels, score, sample_weight=weights))
    assert metrics["auc"] == pytest.approx(roc_auc_score(labels, score, sample_weight=weights))
    assert metrics["brier"] == pytest.approx(np.average((score - labels) ** 2, weights=weights))
    repeated = np.repeat(np.arange(size), weights)
    selected, bought = score[repeated] >= 0.5, labels[repeated]
    assert metrics["recall"] == pytest.approx((selected & bought).sum() / bought.sum())


def test_lift_recall_and_slope() -> None:
    rows = scored_rows(40_000, 1)
    metrics = evaluate(rows, 0.2)
    best = np.argsort(-rows.raw)[:4_000]
    assert metrics["lift_at_10"] == pytest.approx(rows.labels[best].mean() / rows.labels.mean())
    assert metrics["recall_at_10"] == pytest.approx(rows.labels[best].sum() / rows.labels.sum())
    assert metrics["slope"] == pytest.approx(1, abs=0.06)
    assert metrics["ece"] < 0.006
    spread = ScoredRows(rows.users, rows.labels, rows.raw, 1 / (1 + np.exp(-2 * logit(rows.probability))))
    exact = LogisticRegression(C=1e6).fit(logit(spread.probability)[:, None], rows.labels).coef_[0, 0]
    assert evaluate(spread, 0.2)["slope"] == pytest.approx(exact, rel=0.05)
    assert exact == pytest.approx(0.5, abs=0.05)


def test_ranking_metrics_are_none_without_buyers() -> None:
    rows = scored_rows(50, 2)
    without_buyers = ScoredRows(rows.users, np.zeros(50, bool), rows.raw, rows.probability)
    metrics = evaluate(without_buyers, 0.5)
    assert (metrics["ap"], metrics["auc"], metrics["lift_at_1"], metrics["slope"]) == (None,) * 4
    assert metrics["recall"] == 0
    assert "ap" not in metric_intervals(without_buyers, 0.5, 1)


def test_intervals_contain_the_value_and_widen_with_repeated_users() -> None:
    alone, crowded = scored_rows(4_000, 3, per_user=1), scored_rows(4_000, 3, per_user=200)
    values = evaluate(alone, 0.2)
    narrow, wide = metric_intervals(alone, 0.2, 5), metric_intervals(crowded, 0.2, 5)
    for name in ("ap", "auc", "brier", "slope", "lift_at_10"):
        assert narrow[name][0] <= values[name] <= narrow[name][1]
    assert metric_intervals(alone, 0.2, 5) == narrow
    copied = ScoredRows(
        crowded.users, *(np.repeat(array[:400], 10) for array in (crowded.labels, *[crowded.raw] * 2))
    )
    assert np.ptp(metric_intervals(copied, 0.2, 5)["ap"]) > 1.5 * np.ptp(wide["ap"])


def test_segments_days_and_rules() -> None:
    rows = scored_rows(2_000, 4)
    details = detail_metrics(rows)
    segments = details["segments"]
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
    assert [day["day"] for day in details["days"]] == ["2025-01-01", "2025-01-02"]
    assert sum(day["positives"] for day in details["days"]) == rows.labels.sum()
    rule = details["rules"]["open cart"]
    assert rule["ap"] == 1
    assert rule["high"] < 0, "this cart knows the answer"


def test_metrics_of_six_rows() -> None:
    rows = ScoredRows(
        pd.Series(list("aabbcc")),
        np.array([True, False, True, False, False, False]),
        np.array([0.9, 0.8, 0.7, 0.2, 0.2, 0.1]),
        np.array([0.8, 0.6, 0.4, 0.1, 0.1, 0.1]),
    )
    metrics = evaluate(rows, 0.5)
    assert (metrics["recall"], metrics["precision"], metrics["f1"]) == (0.5, 0.5, 0.5)
    assert metrics["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics["auc"] == pytest.approx(7 / 8)
    assert metrics["brier"] == pytest.approx((0.04 + 0.36 + 0.36 + 3 * 0.01) / 6)
    assert (metrics["n"], metrics["positives"], metrics["base_rate"]) == (6, 2, pytest.approx(1 / 3))
    ones = np.ones(6, np.int64)
    assert WeightedRanking(rows.raw, rows.labels).average_precision(ones) == pytest.approx(metrics["ap"])
