"""Metrics of matured predictions."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from retail_core.monitoring.live_metrics import live_metrics


def test_live_metrics_of_a_hand_computed_case() -> None:
    frame = pd.DataFrame(
        {
            "probability": [0.9, 0.8, 0.3, 0.1],
            "will_purchase": [True, True, False, False],
            "purchased": [True, False, True, False],
        }
    )
    metrics = live_metrics(frame)
    assert (metrics.n, metrics.buyers, metrics.base_rate) == (4, 2, 0.5)
    assert (metrics.precision, metrics.recall, metrics.f1) == (0.5, 0.5, 0.5)
    assert metrics.auc == pytest.approx(0.75)
    assert metrics.ap == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.brier == pytest.approx((0.01 + 0.64 + 0.49 + 0.01) / 4)


def test_ranking_metrics_of_a_single_class_are_none() -> None:
    frame = pd.DataFrame({"probability": [0.2], "will_purchase": [False], "purchased": [False]})
    metrics = live_metrics(frame)
    assert (metrics.auc, metrics.ap, metrics.f1) == (None, None, 0.0)
    assert math.isclose(metrics.brier, 0.04)
