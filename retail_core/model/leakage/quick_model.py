"""Checks (e) and (f): a quick model on the sample, with the labels as they are and shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, precision_recall_curve
from threadpoolctl import threadpool_limits

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.model.leakage.guard_data import GuardSample
from retail_core.model.leakage.intervals import Interval, auc, auc_interval
from retail_core.model.leakage.leakage_report import Finding
from retail_core.model.leakage.single_columns import FAMILY_ALPHA
from retail_core.model.splits import user_hash_fraction

MODEL_AUC = 0.98
"""A model is too good to be true if the lower bound of its AUC is at least this."""
QUICK_ROWS = 10_000
"""Rows of a policy that the quick model sees."""
FOLDS = 2
SUSPECTS = 5


@dataclass(frozen=True)
class QuickModelMetrics:
    """What a quick model reaches on users it was not fitted on."""

    auc: Interval
    numbers: dict[str, float | int | str]


def evaluate_quick_model(
    sample: GuardSample, matrix: Float32Array, labels: BoolArray, seed: int
) -> QuickModelMetrics:
    """Out-of-fold AUC, average precision, and precision and recall at the best F1, for the population."""
    scores = _out_of_fold(sample, matrix, labels, seed)
    found = auc_interval(scores, labels, sample.answers.users, FAMILY_ALPHA)
    precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=sample.weights)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    numbers: dict[str, float | int | str] = {
        "policy": sample.policy,
        "n": len(labels),
        "positives": int(labels.sum()),
        "base_rate": float(np.average(labels, weights=sample.weights)),
        "auc": found.value,
        "auc_low": found.low,
        "auc_high": found.high,
        "ap": float(average_precision_score(labels, scores, sample_weight=sample.weights)),
        "f1": float(f1[best]),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
    }
    return QuickModelMetrics(found, numbers)


def check_shuffled_labels(sample: GuardSample, seed: int) -> tuple[QuickModelMetrics, list[Finding]]:
    """(e) The same with labels dealt at random among the rows: an AUC other than 0.5 is ours to explain."""
    labels = np.random.default_rng(seed).permutation(sample.answers.labels)
    found = evaluate_quick_model(sample, sample.matrix, labels, seed)
    positives = int(labels.sum())
    others = len(labels) - positives
    # Four standard deviations of the AUC of scores that know nothing (Mann and Whitney 1947), times the root
    # of the folds: what one fold learns from another's noise, the other learns from its noise.
    reach = 4 * float(np.sqrt(FOLDS * (len(labels) + 1) / (12 * max(1, positives * others))))
    found.numbers["limit_low"], found.numbers["limit_high"] = 0.5 - reach, 0.5 + reach
    if abs(found.auc.value - 0.5) <= reach:
        return found, []
    told = (
        f"With shuffled labels the AUC of {sample.policy} rows is {found.auc.value:.3f}, "
        f"not within {0.5 - reach:.3f} to {0.5 + reach:.3f}: the figures of this guard cannot be trusted."
    )
    return found, [Finding("e", "", "warn", told, dict(found.numbers))]


def check_implausible_performance(
    sample: GuardSample, matrix: Float32Array, owners: Sequence[str], seed: int
) -> tuple[QuickModelMetrics, list[Finding]]:
    """(f) The whole model, and the column it cannot do without if it is too good.

    Args:
        sample: the rows.
        matrix: the columns to be used, without those admitted by name.
        owners: the feature or attribute of each column.
        seed: of the model.
    """
    found = evaluate_quick_model(sample, matrix, sample.answers.labels, seed)
    if found.auc.low < MODEL_AUC:
        return found, []
    column, without = _most_influential_column(sample, matrix, owners, seed)
    told = (
        f"A quick model of {sample.policy} rows has AUC {found.auc.value:.3f} ({found.auc.low:.3f} to "
        f"{found.auc.high:.3f}; {found.numbers['n']:,} rows, {found.numbers['positives']:,} bought), "
        f"which is too good to be true; without {column} it has {without:.3f}."
    )
    evidence = {
        **found.numbers,
        "low": found.auc.low,
        "high": found.auc.high,
        "limit": MODEL_AUC,
        "auc_without_column": without,
    }
    return found, [Finding("f", column, "refuse", told, evidence)]


def _most_influential_column(
    sample: GuardSample, matrix: Float32Array, owners: Sequence[str], seed: int
) -> tuple[str, float]:
    """Of the columns strongest alone, the one without which the model loses most, and its AUC then."""
    labels = sample.answers.labels
    alone: dict[str, float] = {}
    for place, owner in enumerate(owners):
        strength = abs(auc(matrix[:, place], labels) - 0.5)
        alone[owner] = max(alone.get(owner, 0.0), strength)
    suspects = sorted(alone, key=lambda owner: -alone[owner])[:SUSPECTS]
    left = {}
    for suspect in suspects:
        others = np.array([owner != suspect for owner in owners])
        if others.any():
            left[suspect] = auc(_out_of_fold(sample, matrix[:, others], labels, seed), labels)
    if not left:
        return suspects[0], 0.5
    worst = min(left, key=lambda suspect: left[suspect])
    return worst, left[worst]


def _out_of_fold(sample: GuardSample, matrix: Float32Array, labels: BoolArray, seed: int) -> FloatArray:
    """Scores from models that were fitted on other users."""
    fold = (user_hash_fraction(sample.rows["user_id"], "quick") * FOLDS).astype(np.intp)
    scores = np.zeros(len(labels))
    # So small a fit gains nothing from threads, and loses much where others want the cores too.
    with threadpool_limits(1):
        for train, held in _folds(fold, labels):
            model = HistGradientBoostingClassifier(
                max_iter=40, max_leaf_nodes=15, min_samples_leaf=20, early_stopping=False, random_state=seed
            )
            model.fit(matrix[train], labels[train])
            scores[held] = model.decision_function(matrix[held])
    return scores


def _folds(
    fold: np.ndarray[tuple[int], np.dtype[np.intp]], labels: BoolArray
) -> Iterator[tuple[BoolArray, BoolArray]]:
    for number in range(FOLDS):
        held = fold == number
        if 0 < labels[~held].sum() < (~held).sum() and held.any():
            yield ~held, held
