"""Metrics of scored rows with intervals from resampling users.

Every metric is a function of row weights, so that one implementation gives its value (all weights one) and
its bootstrap replicates. Rows are sorted once; a replicate then costs a few passes over them, which keeps
hundreds of replicates of hundreds of thousands of rows within seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from retail_core.arrays import BoolArray, FloatArray, IndexArray, IntArray
from retail_core.model.calibration import logit

MAX_BOOTSTRAP_ROWS = 15_000_000
"""Rows times replicates of one bootstrap, which bounds its duration."""

OPEN_CART_COLUMN = "cart_count"
"""The feature by which the rule "open cart" ranks users."""

LIST_SHARES = (0.01, 0.05, 0.10, 0.20)
"""Shares of the ranked list at which lift and recall are reported."""

_ECE_BINS, _SLOPE_BINS, _NEWTON_STEPS = 10, 200, 25

Metrics = dict[str, float | int | None]


@dataclass(frozen=True)
class ScoredRows:
    """Rows with their scores and labels; arrays of equal length.

    Attributes:
        users: user id of each row.
        labels: whether the user bought within the horizon.
        raw: score that ranks the rows; ties of the probability are ties here too.
        probability: calibrated probability.
    """

    users: pd.Series
    labels: BoolArray
    raw: FloatArray
    probability: FloatArray

    def select(self, mask: BoolArray) -> ScoredRows:
        """The rows where `mask` is true."""
        return ScoredRows(self.users[mask], self.labels[mask], self.raw[mask], self.probability[mask])


class WeightedMetrics:
    """Metrics of scored rows by name, as a function of the rows' weights.

    Average precision and the area under the ROC curve rank by `raw`, ties together. ECE compares mean
    probability and share of buyers in ten bins of equally many rows. `slope` is that of a logistic regression
    of the label on the predicted log odds (Cox, Biometrika 1958): 1 is calibrated, below 1 is overconfident.
    """

    def __init__(self, rows: ScoredRows, f1_threshold: float) -> None:
        self._order = np.argsort(-rows.raw, kind="stable")
        ranked = rows.raw[self._order]
        self._labels = rows.labels[self._order].astype(np.float64)
        self._tie_ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        probability = rows.probability[self._order]
        self._selected = (probability >= f1_threshold).astype(np.float64)
        self._squared_error = (probability - self._labels) ** 2
        self._probability = probability
        self._ece_bins = _equal_bins(probability, _ECE_BINS)
        self._slope_bins = _equal_bins(probability, _SLOPE_BINS)
        self._bin_log_odds = _bin_means(logit(probability), self._slope_bins)

    def __call__(self, weights: IntArray) -> dict[str, float]:
        """All metrics; those of the ranking are NaN where all rows with weight have the same label."""
        weight = weights[self._order].astype(np.float64)
        buyer_weight = weight * self._labels
        total, buyers = float(weight.sum()), float(buyer_weight.sum())
        base_rate = buyers / total
        brier = float((weight * self._squared_error).sum()) / total
        variance = base_rate * (1 - base_rate)
        return {
            **self._ranking_metrics(weight, buyer_weight, total, buyers),
            **self._selection_metrics(weight, buyer_weight, buyers),
            "brier": brier,
            "brier_skill": 1 - brier / variance if variance else np.nan,
            "ece": self._calibration_error(weight, buyer_weight, total),
            "slope": self._calibration_slope(weight, buyer_weight),
        }

    def _ranking_metrics(
        self, weight: FloatArray, buyer_weight: FloatArray, total: float, buyers: float
    ) -> dict[str, float]:
        rows_so_far, buyers_so_far = np.cumsum(weight), np.cumsum(buyer_weight)
        non_buyers = total - buyers
        if not buyers or not non_buyers:
            undefined = {
                f"{kind}_at_{share * 100:g}": np.nan for share in LIST_SHARES for kind in ("lift", "recall")
            }
            return {"ap": np.nan, "auc": np.nan, **undefined}
        rows_at_tie, hits = rows_so_far[self._tie_ends], buyers_so_far[self._tie_ends]
        new_hits = np.diff(hits, prepend=0.0)
        ap = float((new_hits * hits / np.maximum(rows_at_tie, 1e-12)).sum() / buyers)
        false_positives = rows_at_tie - hits
        area = float((np.diff(false_positives, prepend=0.0) * (hits - new_hits / 2)).sum())
        recalls = {share: _recall_at(share, rows_so_far, buyers_so_far, buyers) for share in LIST_SHARES}
        return {
            "ap": ap,
            "auc": area / (buyers * non_buyers),
            **{f"recall_at_{share * 100:g}": recall for share, recall in recalls.items()},
            **{f"lift_at_{share * 100:g}": recall / share for share, recall in recalls.items()},
        }

    def _selection_metrics(
        self, weight: FloatArray, buyer_weight: FloatArray, buyers: float
    ) -> dict[str, float]:
        hits, selected = float((buyer_weight * self._selected).sum()), float((weight * self._selected).sum())
        return {
            "f1": 2 * hits / (buyers + selected) if hits else 0.0,
            "recall": hits / buyers if buyers else 0.0,
            "precision": hits / selected if selected else 0.0,
        }

    def _calibration_error(self, weight: FloatArray, buyer_weight: FloatArray, total: float) -> float:
        expected = np.bincount(self._ece_bins, weight * self._probability)
        return float(np.abs(expected - np.bincount(self._ece_bins, buyer_weight)).sum() / total)

    def _calibration_slope(self, weight: FloatArray, buyer_weight: FloatArray) -> float:
        """Newton's method, in bounded steps, on bins of nearly equal probability."""
        rows, hits = np.bincount(self._slope_bins, weight), np.bincount(self._slope_bins, buyer_weight)
        if not 0 < hits.sum() < rows.sum() or np.ptp(self._bin_log_odds) < 1e-9:
            return float("nan")
        design = np.column_stack([np.ones(len(rows)), self._bin_log_odds])
        coefficients = np.array([logit(np.array([hits.sum() / rows.sum()]))[0], 0.0])
        for _ in range(_NEWTON_STEPS):
            expected = 1 / (1 + np.exp(-np.clip(design @ coefficients, -30, 30)))
            hessian = design.T @ (design * (rows * expected * (1 - expected))[:, None])
            step = np.linalg.solve(hessian + 1e-9 * np.eye(2), design.T @ (hits - rows * expected))
            coefficients = coefficients + np.clip(step, -1, 1)
        return float(coefficients[1])


def _recall_at(share: float, rows_so_far: FloatArray, buyers_so_far: FloatArray, buyers: float) -> float:
    """Share of the buyers among the best `share` of the rows; the row at the edge counts fractionally."""
    edge = share * rows_so_far[-1]
    index = min(int(np.searchsorted(rows_so_far, edge)), len(rows_so_far) - 1)
    rows_before, buyers_before = (rows_so_far[index - 1], buyers_so_far[index - 1]) if index else (0.0, 0.0)
    edge_weight = rows_so_far[index] - rows_before
    fraction = (edge - rows_before) / edge_weight if edge_weight else 0.0
    return float(buyers_before + fraction * (buyers_so_far[index] - buyers_before)) / buyers


def _equal_bins(values: FloatArray, bins: int) -> IndexArray:
    """Bin number of each value: equally many values per bin, in order; ties may be cut."""
    number = np.empty(len(values), dtype=np.intp)
    number[np.argsort(values, kind="stable")] = np.arange(len(values)) * bins // max(len(values), 1)
    return number


def _bin_means(values: FloatArray, bins: IndexArray) -> FloatArray:
    return np.asarray(np.bincount(bins, values) / np.maximum(np.bincount(bins), 1), dtype=np.float64)


def evaluate(rows: ScoredRows, f1_threshold: float) -> Metrics:
    """The metrics of every report; `will_purchase` means a probability of `f1_threshold` or more.

    Metrics that need buyers and non-buyers (AP, AUC, lift, slope, skill) are None where one is missing.
    """
    values = WeightedMetrics(rows, f1_threshold)(np.ones(len(rows.labels), np.int64))
    return {
        **{name: None if np.isnan(value) else value for name, value in values.items()},
        "chosen_share": float(np.mean(rows.probability >= f1_threshold)),
        "base_rate": float(rows.labels.mean()),
        "n": len(rows.labels),
        "positives": int(rows.labels.sum()),
    }


def metric_intervals(rows: ScoredRows, f1_threshold: float, seed: int) -> dict[str, tuple[float, float]]:
    """95 % intervals of the metrics of `evaluate`, from 50 to 200 resamples of the users."""
    metrics = WeightedMetrics(rows, f1_threshold)
    replicates = int(np.clip(MAX_BOOTSTRAP_ROWS // max(len(rows.labels), 1), 50, 200))
    resampled = [metrics(weights) for weights in bootstrap_user_weights(rows.users, replicates, seed)]
    bounds = {}
    for name in resampled[0]:
        values = np.array([replicate[name] for replicate in resampled])
        values = values[~np.isnan(values)]
        if len(values):
            bounds[name] = _interval(values)
    return bounds


def selection_metrics(labels: BoolArray, selected: BoolArray) -> dict[str, float]:
    """F1, recall, precision and share of the rows that are selected; 0 where undefined."""
    hits, buyers, size = int((labels & selected).sum()), int(labels.sum()), int(selected.sum())
    return {
        "f1": 2 * hits / (buyers + size) if hits else 0.0,
        "recall": hits / buyers if buyers else 0.0,
        "precision": hits / size if size else 0.0,
        "chosen_share": size / len(labels),
    }


def open_cart_ap(features: pd.DataFrame, labels: BoolArray) -> float | None:
    """Average precision of the rule "most items in the cart first"; None without cart features or buyers."""
    if OPEN_CART_COLUMN not in features.columns or not labels.any():
        return None
    return float(average_precision_score(labels, features[OPEN_CART_COLUMN].fillna(0.0)))


def bootstrap_user_weights(users: pd.Series, replicates: int, seed: int) -> Iterator[IntArray]:
    """Row weights of a bootstrap over users: in each replicate all rows of a user have the same weight."""
    codes, unique_users = pd.factorize(users)
    rng = np.random.default_rng(seed)
    size = len(unique_users)
    for _ in range(replicates):
        user_weights = np.bincount(rng.integers(0, size, size), minlength=size)
        yield user_weights[codes].astype(np.int64)


class WeightedRanking:
    """Average precision of one fixed ranking under many row weights, each in linear time."""

    def __init__(self, score: FloatArray, labels: BoolArray) -> None:
        self._order = np.argsort(-score, kind="stable")
        ranked = score[self._order]
        self._labels = labels[self._order]
        self._tie_ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def average_precision(self, weights: IntArray) -> float:
        """Equal to scikit-learn's with `sample_weight`; 0 where no buyer has weight."""
        weight = weights[self._order]
        hits = np.cumsum(weight * self._labels)[self._tie_ends]
        rows = np.cumsum(weight)[self._tie_ends]
        if hits[-1] == 0:
            return 0.0
        new_hits = np.diff(hits, prepend=0)
        return float((new_hits * hits / np.maximum(rows, 1)).sum() / hits[-1])


def ap_difference(
    users: pd.Series,
    labels: BoolArray,
    challenger: FloatArray,
    champion: FloatArray,
    seed: int,
    replicates: int = 400,
) -> tuple[float, float, float]:
    """Challenger's average precision less the champion's on the same rows.

    Returns:
        The difference, and the bounds of its 95 % interval, users resampled.
    """
    one_block = np.zeros(len(labels), np.intp)
    return ap_difference_within_blocks(
        PairedRankings(users, labels, challenger, champion, one_block), seed, replicates
    )


@dataclass(frozen=True)
class PairedRankings:
    """The same rows scored by challenger and champion; arrays of equal length.

    Attributes:
        users: user id of each row.
        labels: whether the user bought.
        challenger: scores of the challenger; comparable within a block only.
        champion: scores of the champion.
        blocks: number of the block of each row.
    """

    users: pd.Series
    labels: BoolArray
    challenger: FloatArray
    champion: FloatArray
    blocks: IndexArray

    def differences(self) -> Callable[[IntArray], float]:
        """By row weights: the mean over blocks of the difference in average precision, weighted by buyers."""
        masks = [self.blocks == block for block in np.unique(self.blocks)]
        rankings = [
            tuple(
                WeightedRanking(score[mask], self.labels[mask]) for score in (self.challenger, self.champion)
            )
            for mask in masks
        ]

        def difference(weights: IntArray) -> float:
            total = 0.0
            for mask, (challenger, champion) in zip(masks, rankings, strict=True):
                of_block = weights[mask]
                gain = challenger.average_precision(of_block) - champion.average_precision(of_block)
                total += gain * float(of_block @ self.labels[mask])
            return total / max(1.0, float(weights @ self.labels))

        return difference


def ap_difference_within_blocks(
    pairs: PairedRankings, seed: int, replicates: int = 400
) -> tuple[float, float, float]:
    """As `ap_difference`, where the challenger's scores of each block are of another fit."""
    difference = pairs.differences()
    value = difference(np.ones(len(pairs.labels), np.int64))
    resampled = [difference(weights) for weights in bootstrap_user_weights(pairs.users, replicates, seed)]
    return float(value), *_interval(resampled)


def log_loss_improvement(
    rows: ScoredRows, earlier_probability: FloatArray, seed: int, replicates: int = 400
) -> tuple[float, float, float]:
    """Mean log loss with `earlier_probability` less that with the rows' probabilities; positive is better.

    Args:
        rows: rows whose probabilities lie within (0, 1).
        earlier_probability: of the same rows, within (0, 1).
        seed: of the resampling.
        replicates: resamples of the users.

    Returns:
        The difference, and the bounds of its 95 % interval, users resampled.
    """
    likelihoods = (np.where(rows.labels, p, 1 - p) for p in (rows.probability, earlier_probability))
    log_likelihood, earlier_log_likelihood = (np.log(likelihood) for likelihood in likelihoods)
    gain = log_likelihood - earlier_log_likelihood
    resamples = bootstrap_user_weights(rows.users, replicates, seed)
    resampled = [np.average(gain, weights=weights) for weights in resamples]
    return float(gain.mean()), *_interval(resampled)


def recall_interval(
    rows: ScoredRows, threshold: float, seed: int, replicates: int = 200
) -> tuple[float, float]:
    """95 % interval of the recall at a threshold, users resampled."""
    buyers = rows.select(rows.labels)
    reached = buyers.probability >= threshold
    resamples = bootstrap_user_weights(buyers.users, replicates, seed)
    return _interval([np.average(reached, weights=weights) for weights in resamples])


def _interval(resampled: list[float] | FloatArray) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(low), float(high)
