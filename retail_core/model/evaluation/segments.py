"""Metrics of parts of the test rows (segments, days) and of simple rules on the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.evaluation.metrics import ScoredRows, ap_difference, evaluate, selection_metrics
from retail_core.model.feature_matrix import MISSING

KNOWN_USER_HOURS = 7 * 24
"""A user is known who was first seen at least this long before the cut-off, else new."""

BASELINE_RULES = {
    "open cart": ("cart_count", 1.0),
    "most active in the last day": ("event_count_1d", 1.0),
    "latest active first": ("hours_since_event", -1.0),
    "latest purchase first": ("hours_since_purchase", -1.0),
}
"""Rules by name: the feature each ranks by, and the sign of the ranking."""

SEGMENT_METRICS = ("n", "positives", "base_rate", "ap", "auc", "brier", "ece")
_BOOTSTRAP_REPLICATES = 100


def metrics_by_segment(rows: ScoredRows, features: pd.DataFrame, contact: float) -> dict[str, dict[str, Any]]:
    """Metrics of each segment that has rows, with the share of it that is contacted.

    Args:
        rows: scored rows of one policy.
        features: features of the same rows by name, null = `MISSING`.
        contact: threshold of the audience.
    """
    by_segment = {}
    for name, mask in _segment_masks(features):
        segment = rows.select(mask)
        if not len(segment.labels):
            continue
        metrics = evaluate(segment, contact)
        contacted = selection_metrics(segment.labels, segment.probability >= contact)
        by_segment[name] = {key: metrics[key] for key in SEGMENT_METRICS} | {
            "mean_probability": float(segment.probability.mean()),
            "contact_share": contacted["chosen_share"],
            "contact_recall": contacted["recall"],
        }
    return by_segment


def metrics_by_day(rows: ScoredRows, days: pd.Series, contact: float) -> list[dict[str, Any]]:
    """Metrics of each cut-off day (`YYYY-MM-DD`), in order of time."""
    by_day = []
    for day in sorted(days.unique()):
        day_rows = rows.select(days.eq(day).to_numpy(bool))
        metrics = evaluate(day_rows, contact)
        mean = float(day_rows.probability.mean())
        by_day.append(
            {"day": day, **{key: metrics[key] for key in SEGMENT_METRICS}, "mean_probability": mean}
        )
    return by_day


def compare_with_rules(rows: ScoredRows, features: pd.DataFrame, seed: int) -> dict[str, dict[str, float]]:
    """Average precision of each rule on the same rows, and the model's lead with its 95 % interval."""
    comparison = {}
    for name, (column, sign) in BASELINE_RULES.items():
        if column not in features.columns or not rows.labels.any():
            continue
        score = sign * features[column].to_numpy(np.float64)
        lead, low, high = ap_difference(
            rows.users, rows.labels, rows.raw, score, seed, replicates=_BOOTSTRAP_REPLICATES
        )
        comparison[name] = {"ap": _average_precision(rows, score), "lead": lead, "low": low, "high": high}
    return comparison


def _average_precision(rows: ScoredRows, score: FloatArray) -> float:
    return float(evaluate(ScoredRows(rows.users, rows.labels, score, rows.probability), 0.5)["ap"] or 0.0)


def _segment_masks(features: pd.DataFrame) -> Iterator[tuple[str, BoolArray]]:
    """Segments that the features define; each category of a user attribute is one."""
    if "hours_since_first_event" in features.columns:
        first_seen = features["hours_since_first_event"].to_numpy()
        is_known = (first_seen >= KNOWN_USER_HOURS) & (first_seen != MISSING)
        yield "known users", is_known
        yield "new users", ~is_known
    if "cart_count" in features.columns:
        open_cart = features["cart_count"].to_numpy() > 0
        yield "with an open cart", open_cart
        yield "without an open cart", ~open_cart
    for name in features.columns:
        if name.startswith(("attr_", "platform")) and "=" in name:
            yield name.removeprefix("attr_").replace("=", ": "), features[name].to_numpy() == 1
