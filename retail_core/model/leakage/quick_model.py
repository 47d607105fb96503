"""Checks (e) and (f): a quick model on the sample, with the labels as they are and shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, precision_recall_curve
from threadpoolctl import threadpool_limits

from retail_core.arrays import BoolArray, Float32Array, FloatArray, IndexArray
from retail_core.model.leakage.guard_data import GuardSample
from retail_core.model.leakage.intervals import Interval, auc, auc_interval
from retail_core.model.leakage.leakage_report import Finding
from retail_core.model.leakage.single_columns import FAMILY_ALPHA
from retail_core.model.splits import user_hash_fraction

MODEL_AUC = 0.98
"""A model is too good to be true if the lower bound of its AUC is at least this."""
QUICK_ROWS = 10_000
"""Rows of a policy that the quick model is fitted and evaluated on."""
FOLDS = 2
SUSPECTS = 5
"""Columns, strongest alone first, that are left out in turn to find the one the model depends on."""


@dataclass(frozen=True)
class QuickModelMetrics:
    """Metrics of a quick model on users it was not fitted on; `numbers` are plain values for the report."""

    auc: Interval
    numbers: dict[str, float | int | str]


def evaluate_quick_model(
    sample: GuardSample, matrix: Float32Array, labels: BoolArray, seed: int
) -> QuickModelMetrics:
    """Out-of-fold AUC, average precision, and precision and recall at the best F1, for the population."""
    scores = _out_of_fold_scores(sample, matrix, labels, seed)
    interval = auc_interval(scores, labels, sample.row_labels.users, FAMILY_ALPHA)
    precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=sample.weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    numbers: dict[str, float | int | str] = {
        "policy": sample.policy,
        "n": len(labels),
        "positives": int(labels.sum()),
        "base_rate": float(np.average(labels, weights=sample.weights)),
        "auc": interval.value,
        "auc_low": interval.low,
        "auc_high": interval.high,
        "ap": float(average_precision_score(labels, scores, sample_weight=sample.weights)),
        "f1": float(f1[best]),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
    }
    return QuickModelMetrics(interval, numbers)


def check_shuffled_labels(sample: GuardSample, seed: int) -> tuple[QuickModelMetrics, list[Finding]]:
    """(e) The quick model with permuted labels: an AUC other than 0.5 means that the guard is faulty."""
    labels = np.random.default_rng(seed).permutation(sample.row_labels.bought)
    metrics = evaluate_quick_model(sample, sample.matrix, labels, seed)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    # Four standard deviations of the AUC of random scores (Mann and Whitney 1947), times the root of the
    # number of folds: the folds are not independent, each is fitted on the noise that the other is scored on.
    reach = 4 * float(np.sqrt(FOLDS * (len(labels) + 1) / (12 * max(1, positives * negatives))))
    metrics.numbers["limit_low"], metrics.numbers["limit_high"] = 0.5 - reach, 0.5 + reach
    if abs(metrics.auc.value - 0.5) <= reach:
        return metrics, []
    sentence = (
        f"With shuffled labels the AUC of {sample.policy} rows is {metrics.auc.value:.3f}, "
        f"not within {0.5 - reach:.3f} to {0.5 + reach:.3f}: the numbers of this guard cannot be trusted."
    )
    return metrics, [Finding("e", "", "warn", sentence, dict(metrics.numbers))]


def check_implausible_performance(
    sample: GuardSample, matrix: Float32Array, owners: Sequence[str], seed: int
) -> tuple[QuickModelMetrics, list[Finding]]:
    """(f) The quick model, and the column it depends on most if it is too good to be true.

    Args:
        sample: the rows.
        matrix: the columns to use, without those allowed by name.
        owners: the feature or attribute of each column.
        seed: of the model.
    """
    metrics = evaluate_quick_model(sample, matrix, sample.row_labels.bought, seed)
    if metrics.auc.low < MODEL_AUC:
        return metrics, []
    column, auc_without_column = _most_influential_column(sample, matrix, owners, seed)
    sentence = (
        f"A quick model of {sample.policy} rows has AUC {metrics.auc.value:.3f} ({metrics.auc.low:.3f} to "
        f"{metrics.auc.high:.3f}; {metrics.numbers['n']:,} rows, {metrics.numbers['positives']:,} bought), "
        f"which is too good to be true; without {column} it has {auc_without_column:.3f}."
    )
    evidence = {
        **metrics.numbers,
        "low": metrics.auc.low,
        "high": metrics.auc.high,
        "limit": MODEL_AUC,
        "auc_without_column": auc_without_column,
    }
    return metrics, [Finding("f", column, "refuse", sentence, evidence)]


def _most_influential_column(
    sample: GuardSample, matrix: Float32Array, owners: Sequence[str], seed: int
) -> tuple[str, float]:
    """Of the columns strongest alone, the one without which the model loses most, and its AUC then."""
    labels = sample.row_labels.bought
    strength_alone: dict[str, float] = {}
    for index, owner in enumerate(owners):
        strength = abs(auc(matrix[:, index], labels) - 0.5)
        strength_alone[owner] = max(strength_alone.get(owner, 0.0), strength)
    suspects = sorted(strength_alone, key=lambda owner: -strength_alone[owner])[:SUSPECTS]
    auc_without = {}
    for suspect in suspects:
        remaining = np.array([owner != suspect for owner in owners])
        if remaining.any():
            scores = _out_of_fold_scores(sample, matrix[:, remaining], labels, seed)
            auc_without[suspect] = auc(scores, labels)
    if not auc_without:
        return suspects[0], 0.5
    column = min(auc_without, key=lambda suspect: auc_without[suspect])
    return column, auc_without[column]


def _out_of_fold_scores(
    sample: GuardSample, matrix: Float32Array, labels: BoolArray, seed: int
) -> FloatArray:
    """Scores from models that were fitted on other users."""
    fold = (user_hash_fraction(sample.rows["user_id"], "quick") * FOLDS).astype(np.intp)
    scores = np.zeros(len(labels))
    # A fit this small gains nothing from threads, and loses time where other processes use the cores.
    with threadpool_limits(1):
        for train, validation in _usable_folds(fold, labels):
            model = HistGradientBoostingClassifier(
                max_iter=40, max_leaf_nodes=15, min_samples_leaf=20, early_stopping=False, random_state=seed
            )
            model.fit(matrix[train], labels[train])
            scores[validation] = model.decision_function(matrix[validation])
    return scores


def _usable_folds(fold: IndexArray, labels: BoolArray) -> Iterator[tuple[BoolArray, BoolArray]]:
    """Train and validation masks of the folds whose train rows have both classes."""
    for number in range(FOLDS):
        validation = fold == number
        if 0 < labels[~validation].sum() < (~validation).sum() and validation.any():
            yield ~validation, validation
