"""The test rows looked at more closely: by kind of user, by day, and beside rules of thumb."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.evaluation.metrics import ScoredRows, ap_difference, evaluate, selection_metrics
from retail_core.model.feature_matrix import MISSING

KNOWN_USER_HOURS = 7 * 24
"""A user is known who was first seen so long before the cut-off, else new."""

BASELINE_RULES = {
    "open cart": ("cart_count", 1.0),
    "most active in the last day": ("event_count_1d", 1.0),
    "latest active first": ("hours_since_event", -1.0),
    "latest purchase first": ("hours_since_purchase", -1.0),
}
"""Rules of thumb: the feature each ranks by, and which way."""

SEGMENT_METRICS = ("n", "positives", "base_rate", "ap", "auc", "brier", "ece")
_BOOTSTRAP_REPLICATES = 100


def metrics_by_segment(rows: ScoredRows, features: pd.DataFrame, contact: float) -> dict[str, dict[str, Any]]:
    """Figures of each segment that has rows, with what is contacted of it.

    Args:
        rows: judged rows of one policy.
        features: the same rows' features by name, null = `MISSING`.
        contact: threshold of the audience.
    """
    found = {}
    for name, mask in _masks(features):
        part = rows.select(mask)
        if not len(part.labels):
            continue
        figures = evaluate(part, contact)
        chosen = selection_metrics(part.labels, part.probability >= contact)
        found[name] = {key: figures[key] for key in SEGMENT_METRICS} | {
            "mean_probability": float(part.probability.mean()),
            "contact_share": chosen["chosen_share"],
            "contact_recall": chosen["recall"],
        }
    return found


def metrics_by_day(rows: ScoredRows, days: pd.Series, contact: float) -> list[dict[str, Any]]:
    """Figures of each cut-off day (`YYYY-MM-DD`), in order."""
    found = []
    for day in sorted(days.unique()):
        part = rows.select(days.eq(day).to_numpy(bool))
        figures = evaluate(part, contact)
        shown = {key: figures[key] for key in SEGMENT_METRICS}
        found.append({"day": day} | shown | {"mean_probability": float(part.probability.mean())})
    return found


def compare_with_rules(rows: ScoredRows, features: pd.DataFrame, seed: int) -> dict[str, dict[str, float]]:
    """Average precision of each rule on the same rows, and the model's lead with its 95 % interval."""
    found = {}
    for name, (column, sign) in BASELINE_RULES.items():
        if column not in features.columns or not rows.labels.any():
            continue
        score = sign * features[column].to_numpy(np.float64)
        lead, low, high = ap_difference(
            rows.users, rows.labels, rows.raw, score, seed, replicates=_BOOTSTRAP_REPLICATES
        )
        found[name] = {"ap": _ap(rows, score), "lead": lead, "low": low, "high": high}
    return found


def _ap(rows: ScoredRows, score: FloatArray) -> float:
    return float(evaluate(ScoredRows(rows.users, rows.labels, score, rows.probability), 0.5)["ap"] or 0.0)


def _masks(features: pd.DataFrame) -> Iterator[tuple[str, BoolArray]]:
    """Segments by what the features tell; a user attribute's categories each are one."""
    if "hours_since_first_event" in features.columns:
        first = features["hours_since_first_event"].to_numpy()
        known = (first >= KNOWN_USER_HOURS) & (first != MISSING)
        yield "known users", known
        yield "new users", ~known
    if "cart_count" in features.columns:
        cart = features["cart_count"].to_numpy() > 0
        yield "with an open cart", cart
        yield "without an open cart", ~cart
    for name in features.columns:
        if name.startswith(("attr_", "platform")) and "=" in name:
            yield name.removeprefix("attr_").replace("=", ": "), features[name].to_numpy() == 1
