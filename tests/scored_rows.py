"""Scored rows with calibrated probabilities, and the detail metrics that a version stores of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from retail_core.model.evaluation.metrics import ScoredRows, metric_intervals
from retail_core.model.evaluation.segments import compare_with_rules, metrics_by_day, metrics_by_segment
from retail_core.model.feature_matrix import MISSING


def scored_rows(size: int, seed: int, per_user: int = 4) -> ScoredRows:
    rng = np.random.default_rng(seed)
    probability = rng.beta(1.0, 15.0, size)
    users = pd.Series([f"u{number}" for number in np.arange(size) // per_user])
    return ScoredRows(users, rng.random(size) < probability, probability, probability)


def detail_metrics(rows: ScoredRows) -> dict[str, object]:
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
        "intervals": {name: list(bounds) for name, bounds in metric_intervals(rows, 0.2, 1).items()},
        "segments": metrics_by_segment(rows, features, 0.1),
        "days": metrics_by_day(rows, days, 0.1),
        "rules": compare_with_rules(rows, features, 1),
    }
