"""How good a ranking with probabilities is on rows it has never seen, and how sure of that we are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score

from retail_core.arrays import BoolArray, FloatArray
from retail_core.model.calibration import logit

MAX_BOOTSTRAP_ROWS = 15_000_000
"""Rows times draws of one bootstrap, which bounds its seconds."""

OPEN_CART_COLUMN = "cart_count"
"""The feature behind the rule "who has most in the cart buys"."""

LIST_SHARES = (0.01, 0.05, 0.10, 0.20)
"""Parts of the list, best first, whose lift and recall are told."""

_ECE_BINS, _SLOPE_BINS, _NEWTON_STEPS = 10, 200, 25

Metrics = dict[str, float | int | None]


@dataclass(frozen=True)
class ScoredRows:
    """Rows with what was predicted and what happened; arrays of equal length.

    `raw` ranks (ties of the probability included), `probability` is calibrated.
    """

    users: pd.Series
    labels: BoolArray
    raw: FloatArray
    probability: FloatArray

    def select(self, mask: BoolArray) -> ScoredRows:
        """The rows where `mask` holds."""
        return ScoredRows(self.users[mask], self.labels[mask], self.raw[mask], self.probability[mask])


class WeightedMetrics:
    """Figures of judged rows by name, as functions of the rows' weights.

    Average precision and the area under the ROC curve rank by `raw`, ties together. ECE compares promise
    and truth in ten bins of equally many rows. `slope` is that of a logistic regression of the outcome on
    the log odds promised (Cox, Biometrika 1958): 1 is right, below 1 promises too much spread.
    """

    def __init__(self, rows: ScoredRows, f1_threshold: float) -> None:
        self._order = np.argsort(-rows.raw, kind="stable")
        ranked = rows.raw[self._order]
        self._labels = rows.labels[self._order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        probability = rows.probability[self._order]
        self._chosen = (probability >= f1_threshold).astype(np.float64)
        self._error = (probability - self._labels) ** 2
        self._probability = probability
        self._tenths = _equal_bins(probability, _ECE_BINS)
        self._cells = _equal_bins(probability, _SLOPE_BINS)
        self._odds = _means(logit(probability), self._cells)

    def __call__(self, weights: npt.NDArray[np.int64]) -> dict[str, float]:
        """All figures; those of ranking are NaN where all rows with weight have the same answer."""
        weight = weights[self._order].astype(np.float64)
        bought = weight * self._labels
        total, buyers = float(weight.sum()), float(bought.sum())
        base = buyers / total
        brier = float((weight * self._error).sum()) / total
        spread = base * (1 - base)
        return {
            **self._ranking(weight, bought, total, buyers),
            **self._choice(weight, bought, buyers),
            "brier": brier,
            "brier_skill": 1 - brier / spread if spread else np.nan,
            "ece": self._ece(weight, bought, total),
            "slope": self._slope(weight, bought),
        }

    def _ranking(
        self, weight: FloatArray, bought: FloatArray, total: float, buyers: float
    ) -> dict[str, float]:
        seen, found = np.cumsum(weight), np.cumsum(bought)
        others = total - buyers
        if not buyers or not others:
            nothing = {
                f"{kind}_at_{share * 100:g}": np.nan for share in LIST_SHARES for kind in ("lift", "recall")
            }
            return {"ap": np.nan, "auc": np.nan, **nothing}
        at, hits = seen[self._ends], found[self._ends]
        gained = np.diff(hits, prepend=0.0)
        ap = float((gained * hits / np.maximum(at, 1e-12)).sum() / buyers)
        false = at - hits
        area = float((np.diff(false, prepend=0.0) * (hits - gained / 2)).sum())
        recalls = {share: self._recall_at(share, seen, found, buyers) for share in LIST_SHARES}
        return {
            "ap": ap,
            "auc": area / (buyers * others),
            **{f"recall_at_{share * 100:g}": recall for share, recall in recalls.items()},
            **{f"lift_at_{share * 100:g}": recall / share for share, recall in recalls.items()},
        }

    def _recall_at(self, share: float, seen: FloatArray, found: FloatArray, buyers: float) -> float:
        """Buyers among the best `share` of the rows; the row on the edge counts in part."""
        edge = share * seen[-1]
        place = min(int(np.searchsorted(seen, edge)), len(seen) - 1)
        before = (seen[place - 1], found[place - 1]) if place else (0.0, 0.0)
        width = seen[place] - before[0]
        part = (edge - before[0]) / width if width else 0.0
        return float(before[1] + part * (found[place] - before[1])) / buyers

    def _choice(self, weight: FloatArray, bought: FloatArray, buyers: float) -> dict[str, float]:
        hits, picked = float((bought * self._chosen).sum()), float((weight * self._chosen).sum())
        return {
            "f1": 2 * hits / (buyers + picked) if hits else 0.0,
            "recall": hits / buyers if buyers else 0.0,
            "precision": hits / picked if picked else 0.0,
        }

    def _ece(self, weight: FloatArray, bought: FloatArray, total: float) -> float:
        promised = np.bincount(self._tenths, weight * self._probability)
        return float(np.abs(promised - np.bincount(self._tenths, bought)).sum() / total)

    def _slope(self, weight: FloatArray, bought: FloatArray) -> float:
        """Newton's method, in bounded steps, on cells of nearly equal probability."""
        rows, hits = np.bincount(self._cells, weight), np.bincount(self._cells, bought)
        if not 0 < hits.sum() < rows.sum() or np.ptp(self._odds) < 1e-9:
            return float("nan")
        design = np.column_stack([np.ones(len(rows)), self._odds])
        found = np.array([logit(np.array([hits.sum() / rows.sum()]))[0], 0.0])
        for _ in range(_NEWTON_STEPS):
            promised = 1 / (1 + np.exp(-np.clip(design @ found, -30, 30)))
            bend = design.T @ (design * (rows * promised * (1 - promised))[:, None])
            step = np.linalg.solve(bend + 1e-9 * np.eye(2), design.T @ (hits - rows * promised))
            found = found + np.clip(step, -1, 1)
        return float(found[1])


def _equal_bins(values: FloatArray, bins: int) -> npt.NDArray[np.intp]:
    """The bin of each value: equally many values each, in order; ties are cut."""
    number = np.empty(len(values), dtype=np.intp)
    number[np.argsort(values, kind="stable")] = np.arange(len(values)) * bins // max(len(values), 1)
    return number


def _means(values: FloatArray, bins: npt.NDArray[np.intp]) -> FloatArray:
    return np.asarray(np.bincount(bins, values) / np.maximum(np.bincount(bins), 1), dtype=np.float64)


def evaluate(rows: ScoredRows, f1_threshold: float) -> Metrics:
    """The metrics every report shows: `will_purchase` means a probability of `f1_threshold` or more.

    Those that need both answers (AP, AUC, lift, slope, skill) are None where all rows have the same.
    """
    found = WeightedMetrics(rows, f1_threshold)(np.ones(len(rows.labels), np.int64))
    return {
        **{name: None if np.isnan(value) else value for name, value in found.items()},
        "chosen_share": float(np.mean(rows.probability >= f1_threshold)),
        "base_rate": float(rows.labels.mean()),
        "n": len(rows.labels),
        "positives": int(rows.labels.sum()),
    }


def metric_intervals(rows: ScoredRows, f1_threshold: float, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of the figures of `judge` that vary, users resampled: 50 to 200 times, by size."""
    figures = WeightedMetrics(rows, f1_threshold)
    replicates = int(np.clip(MAX_BOOTSTRAP_ROWS // max(len(rows.labels), 1), 50, 200))
    drawn = [figures(weights) for weights in bootstrap_user_weights(rows.users, replicates, seed)]
    found = {}
    for name in drawn[0]:
        values = np.array([one[name] for one in drawn])
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, [0.025, 0.975])
            found[name] = (float(low), float(high))
    return found


def selection_metrics(labels: BoolArray, chosen: BoolArray) -> dict[str, float]:
    """F1, recall, precision and share chosen; 0 where undefined."""
    hits, buyers, picked = int((labels & chosen).sum()), int(labels.sum()), int(chosen.sum())
    return {
        "f1": 2 * hits / (buyers + picked) if hits else 0.0,
        "recall": hits / buyers if buyers else 0.0,
        "precision": hits / picked if picked else 0.0,
        "chosen_share": picked / len(labels),
    }


def open_cart_ap(features: pd.DataFrame, labels: BoolArray) -> float | None:
    """Average precision of the rule "most in the cart first"; None where there are no cart features."""
    if OPEN_CART_COLUMN not in features.columns or not labels.any():
        return None
    return float(average_precision_score(labels, features[OPEN_CART_COLUMN].fillna(0.0)))


def bootstrap_user_weights(users: pd.Series, replicates: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Bootstrap over users: for each replicate, how often each row is drawn (all rows of a user alike)."""
    codes, names = pd.factorize(users)
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        yield drawn[codes].astype(np.int64)


class WeightedRanking:
    """Average precision of one fixed ranking under many row weights, each in linear time."""

    def __init__(self, score: FloatArray, labels: BoolArray) -> None:
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
    users: pd.Series,
    labels: BoolArray,
    challenger: FloatArray,
    champion: FloatArray,
    seed: int,
    replicates: int = 400,
) -> tuple[float, float, float]:
    """Challenger's AP less champion's on the same rows: value, and 95 % interval with users resampled."""
    ours, theirs = WeightedRanking(challenger, labels), WeightedRanking(champion, labels)
    once = np.ones(len(labels), np.int64)
    value = ours.average_precision(once) - theirs.average_precision(once)
    drawn = [
        ours.average_precision(weights) - theirs.average_precision(weights)
        for weights in bootstrap_user_weights(users, replicates, seed)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(value), float(low), float(high)


def log_loss_improvement(
    rows: ScoredRows, before: FloatArray, seed: int, replicates: int = 400
) -> tuple[float, float, float]:
    """By how much the mean log loss of the rows is lower than with the probabilities `before`.

    Value, and 95 % interval with users resampled; positive is better. Probabilities lie within (0, 1).
    """
    ours, theirs = (np.where(rows.labels, one, 1 - one) for one in (rows.probability, before))
    gain = np.log(ours) - np.log(theirs)
    drawn = [
        np.average(gain, weights=weights) for weights in bootstrap_user_weights(rows.users, replicates, seed)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(gain.mean()), float(low), float(high)


def recall_interval(
    rows: ScoredRows, threshold: float, seed: int, replicates: int = 200
) -> tuple[float, float]:
    """95 % interval of the recall over user-days at a threshold, users resampled."""
    buyers = rows.select(rows.labels)
    found = buyers.probability >= threshold
    values = [
        np.average(found, weights=weights)
        for weights in bootstrap_user_weights(buyers.users, replicates, seed)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
