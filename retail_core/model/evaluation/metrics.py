"""How good a ranking with probabilities is on rows it has never seen, and how sure of that we are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score

from retail_core.model.evaluation.figures import Figures
from retail_core.model.sampling import Floats
from retail_core.model.splits import Mask

MOST_DRAWN = 15_000_000
"""Rows times draws of one bootstrap, which bounds its seconds."""

OPEN_CART_COLUMN = "cart_count"
"""The feature behind the rule "who has most in the cart buys"."""

Metrics = dict[str, float | int | None]


@dataclass(frozen=True)
class Judged:
    """Rows with what was predicted and what happened; arrays of equal length.

    `raw` ranks (ties of the probability included), `probability` is calibrated.
    """

    users: pd.Series
    labels: Mask
    raw: Floats
    probability: Floats

    def select(self, mask: Mask) -> Judged:
        """The rows where `mask` holds."""
        return Judged(self.users[mask], self.labels[mask], self.raw[mask], self.probability[mask])


def judge(rows: Judged, f1_threshold: float) -> Metrics:
    """The metrics every report shows: `will_purchase` means a probability of `f1_threshold` or more.

    Those that need both answers (AP, AUC, lift, slope, skill) are None where all rows have the same.
    """
    found = Figures(rows, f1_threshold)(np.ones(len(rows.labels), np.int64))
    return {
        **{name: None if np.isnan(value) else value for name, value in found.items()},
        "chosen_share": float(np.mean(rows.probability >= f1_threshold)),
        "base_rate": float(rows.labels.mean()),
        "n": len(rows.labels),
        "positives": int(rows.labels.sum()),
    }


def intervals(rows: Judged, f1_threshold: float, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of the figures of `judge` that vary, users resampled: 50 to 200 times, by size."""
    figures = Figures(rows, f1_threshold)
    replicates = int(np.clip(MOST_DRAWN // max(len(rows.labels), 1), 50, 200))
    drawn = [figures(weights) for weights in user_weights(rows.users, replicates, seed)]
    found = {}
    for name in drawn[0]:
        values = np.array([one[name] for one in drawn])
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, [0.025, 0.975])
            found[name] = (float(low), float(high))
    return found


def choice_quality(labels: Mask, chosen: Mask) -> dict[str, float]:
    """F1, recall, precision and share chosen; 0 where undefined."""
    hits, buyers, picked = int((labels & chosen).sum()), int(labels.sum()), int(chosen.sum())
    return {
        "f1": 2 * hits / (buyers + picked) if hits else 0.0,
        "recall": hits / buyers if buyers else 0.0,
        "precision": hits / picked if picked else 0.0,
        "chosen_share": picked / len(labels),
    }


def open_cart_ap(features: pd.DataFrame, labels: Mask) -> float | None:
    """Average precision of the rule "most in the cart first"; None where there are no cart features."""
    if OPEN_CART_COLUMN not in features.columns or not labels.any():
        return None
    return float(average_precision_score(labels, features[OPEN_CART_COLUMN].fillna(0.0)))


def user_weights(users: pd.Series, replicates: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Bootstrap over users: for each replicate, how often each row is drawn (all rows of a user alike)."""
    codes, names = pd.factorize(users)
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        yield drawn[codes].astype(np.int64)


class WeightedRanking:
    """Average precision of one fixed ranking under many row weights, each in linear time."""

    def __init__(self, score: Floats, labels: Mask) -> None:
        self._order = np.argsort(-score, kind="stable")
        ranked = score[self._order]
        self._labels = labels[self._order]
        self._last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def average_precision(self, weights: npt.NDArray[np.int64]) -> float:
        """Equal to scikit-learn's with `sample_weight`; 0 where no buyer has weight."""
        weight = weights[self._order]
        found = np.cumsum(weight * self._labels)[self._last]
        seen = np.cumsum(weight)[self._last]
        if found[-1] == 0:
            return 0.0
        gained = np.diff(found, prepend=0)
        return float((gained * found / np.maximum(seen, 1)).sum() / found[-1])


def ap_difference(
    users: pd.Series, labels: Mask, challenger: Floats, champion: Floats, seed: int, replicates: int = 400
) -> tuple[float, float, float]:
    """Challenger's AP less champion's on the same rows: value, and 95 % interval with users resampled."""
    ours, theirs = WeightedRanking(challenger, labels), WeightedRanking(champion, labels)
    once = np.ones(len(labels), np.int64)
    value = ours.average_precision(once) - theirs.average_precision(once)
    drawn = [
        ours.average_precision(weights) - theirs.average_precision(weights)
        for weights in user_weights(users, replicates, seed)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(value), float(low), float(high)


def log_loss_gain(
    rows: Judged, before: Floats, seed: int, replicates: int = 400
) -> tuple[float, float, float]:
    """By how much the mean log loss of the rows is lower than with the probabilities `before`.

    Value, and 95 % interval with users resampled; positive is better. Probabilities lie within (0, 1).
    """
    ours, theirs = (np.where(rows.labels, one, 1 - one) for one in (rows.probability, before))
    gain = np.log(ours) - np.log(theirs)
    drawn = [np.average(gain, weights=weights) for weights in user_weights(rows.users, replicates, seed)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gain.mean()), float(low), float(high)


def recall_interval(rows: Judged, threshold: float, seed: int, replicates: int = 200) -> tuple[float, float]:
    """95 % interval of the recall over user-days at a threshold, users resampled."""
    buyers = rows.select(rows.labels)
    found = buyers.probability >= threshold
    values = [np.average(found, weights=weights) for weights in user_weights(buyers.users, replicates, seed)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
