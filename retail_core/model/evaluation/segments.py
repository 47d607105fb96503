"""The test rows looked at more closely: by kind of user, by day, and beside rules of thumb."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from retail_core.model.evaluation.metrics import Judged, ap_difference, choice_quality, judge
from retail_core.model.matrix import MISSING
from retail_core.model.sampling import Floats
from retail_core.model.splits import Mask

KNOWN_HOURS = 7 * 24
"""A user is known who was first seen so long before the cut-off, else new."""

RULES = {
    "open cart": ("cart_count", 1.0),
    "most active in the last day": ("event_count_1d", 1.0),
    "latest active first": ("hours_since_event", -1.0),
    "latest purchase first": ("hours_since_purchase", -1.0),
}
"""Rules of thumb: the feature each ranks by, and which way."""

SHOWN = ("n", "positives", "base_rate", "ap", "auc", "brier", "ece")
_DRAWS = 100


def by_segment(rows: Judged, features: pd.DataFrame, contact: float) -> dict[str, dict[str, Any]]:
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
        figures = judge(part, contact)
        chosen = choice_quality(part.labels, part.probability >= contact)
        found[name] = {key: figures[key] for key in SHOWN} | {
            "mean_probability": float(part.probability.mean()),
            "contact_share": chosen["chosen_share"],
            "contact_recall": chosen["recall"],
        }
    return found


def by_day(rows: Judged, days: pd.Series, contact: float) -> list[dict[str, Any]]:
    """Figures of each cut-off day (`YYYY-MM-DD`), in order."""
    found = []
    for day in sorted(days.unique()):
        part = rows.select(days.eq(day).to_numpy(bool))
        figures = judge(part, contact)
        shown = {key: figures[key] for key in SHOWN}
        found.append({"day": day} | shown | {"mean_probability": float(part.probability.mean())})
    return found


def beside_rules(rows: Judged, features: pd.DataFrame, seed: int) -> dict[str, dict[str, float]]:
    """Average precision of each rule on the same rows, and the model's lead with its 95 % interval."""
    found = {}
    for name, (column, sign) in RULES.items():
        if column not in features.columns or not rows.labels.any():
            continue
        score = sign * features[column].to_numpy(np.float64)
        lead, low, high = ap_difference(rows.users, rows.labels, rows.raw, score, seed, replicates=_DRAWS)
        found[name] = {"ap": _ap(rows, score), "lead": lead, "low": low, "high": high}
    return found


def _ap(rows: Judged, score: Floats) -> float:
    return float(judge(Judged(rows.users, rows.labels, score, rows.probability), 0.5)["ap"] or 0.0)


def _masks(features: pd.DataFrame) -> Iterator[tuple[str, Mask]]:
    """Segments by what the features tell; a user attribute's categories each are one."""
    if "hours_since_first_event" in features.columns:
        first = features["hours_since_first_event"].to_numpy()
        known = (first >= KNOWN_HOURS) & (first != MISSING)
        yield "known users", known
        yield "new users", ~known
    if "cart_count" in features.columns:
        cart = features["cart_count"].to_numpy() > 0
        yield "with an open cart", cart
        yield "without an open cart", ~cart
    for name in features.columns:
        if name.startswith(("attr_", "platform")) and "=" in name:
            yield name.removeprefix("attr_").replace("=", ": "), features[name].to_numpy() == 1
