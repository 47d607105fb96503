"""This project's candidates on UCI Online Shoppers, 10-fold out of fold, and the promise of its certificate.

    python -m tests.benchmarks.bench_shoppers [--splits 200]

Each family has one fixed cell of its grid, so nothing is chosen on the rows it is judged on. "lightgbm
searched" has its cell chosen by the product's own search inside each of the ten training parts, anew
(nested). The second part takes LightGBM's out-of-fold scores as the population, draws a quarter as many
buyers again and again, sets the threshold for a recall of 0.90 at 95 % on them, and counts how often it finds
less than 0.90 of all; the naive threshold's rate stands beside it. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families import RankerConfig, select_families
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.search import SearchRows, search_families
from retail_core.model.splits import PeriodFolds
from retail_core.model.thresholds import recall_threshold
from tests.benchmarks.source_lake import SHARED_DATA

CELLS = (
    RankerConfig("lightgbm", {"n_estimators": 100, "max_depth": 5, "min_samples_leaf": 80}),
    RankerConfig("rf", {"n_estimators": 200, "max_depth": 14, "min_samples_leaf": 5}),
    RankerConfig("logistic", {"C": 0.1}),
)
TARGET, CONFIDENCE = 0.90, 0.95


def sessions(without: tuple[str, ...] = ()) -> tuple[Float32Array, BoolArray]:
    """All sessions; texts as one column a value."""
    frame = pd.read_csv(SHARED_DATA / "online_shoppers" / "online_shoppers_intention.csv")
    labels = frame.pop("Revenue").astype(str).str.upper().eq("TRUE").to_numpy(bool)
    frame = frame.drop(columns=list(without))
    frame["Weekend"] = frame["Weekend"].astype(str).str.upper().eq("TRUE")
    named = ["OperatingSystems", "Browser", "Region", "TrafficType"]
    dummies = pd.get_dummies(frame.astype(dict.fromkeys(named, str)), dtype=float)
    return to_matrix(dummies.to_numpy(np.float64)), labels


def out_of_fold(choice: RankerConfig | None, matrix: Float32Array, labels: BoolArray) -> FloatArray:
    """Scores of each session by a model that did not see it; None for the cell found without it."""
    scores = np.zeros(len(labels))
    for train, test in StratifiedKFold(10, shuffle=True, random_state=7).split(matrix, labels):
        ranker = (choice or searched(matrix[train], labels[train])).build(7).fit(matrix[train], labels[train])
        scores[test] = CalibratedRanker({"daily": ranker}).raw_score(matrix[test])
    return scores


def searched(matrix: Float32Array, labels: BoolArray) -> RankerConfig:
    """The cell of LightGBM that the product's search takes; sessions have no date and are dealt by hash."""
    day = pd.Timestamp("2025-01-01", tz="UTC")
    users = [f"session {number}" for number in range(len(labels))]
    rows = pd.DataFrame({"user_id": users, "as_of": day, "label": labels})
    folds = PeriodFolds(rows, timedelta(hours=24))
    return search_families(SearchRows(matrix, rows, folds), select_families("lightgbm"), seed=7).config


def figures(scores: FloatArray, labels: BoolArray, seed: int = 7) -> dict[str, Any]:
    """AUC and AP with 95 % intervals, sessions resampled."""
    rng = np.random.default_rng(seed)
    resampled = []
    for _ in range(100):
        rows = rng.integers(0, len(labels), len(labels))
        resampled.append(
            (roc_auc_score(labels[rows], scores[rows]), average_precision_score(labels[rows], scores[rows]))
        )
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    value = roc_auc_score(labels, scores), average_precision_score(labels, scores)
    return {
        name: [round(float(number), 4) for number in (value[place], low[place], high[place])]
        for place, name in enumerate(("auc", "ap"))
    }


def resplits(scores: FloatArray, labels: BoolArray, splits: int) -> dict[str, float]:
    """How often the threshold of a quarter of the buyers, drawn anew, misses the target in all."""
    rng = np.random.default_rng(7)
    buyers = scores[labels]
    missed = {"certified": 0, "naive": 0}
    for _ in range(splits):
        sampled = rng.choice(buyers, len(buyers) // 4)
        certified = recall_threshold(sampled, TARGET, CONFIDENCE).threshold
        naive = float(np.quantile(sampled, 1 - TARGET, method="lower"))
        missed["certified"] += int((buyers >= certified).mean() < TARGET)
        missed["naive"] += int((buyers >= naive).mean() < TARGET)
    return {name: count / splits for name, count in missed.items()}


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=200)
    splits = parser.parse_args().splits
    started = time.perf_counter()
    matrix, labels = sessions()
    scores = {choice.family: out_of_fold(choice, matrix, labels) for choice in CELLS}
    results: dict[str, Any] = {name: figures(score, labels) for name, score in scores.items()}
    results["lightgbm searched"] = figures(out_of_fold(None, matrix, labels), labels)
    bare, _ = sessions(without=("PageValues",))
    results["lightgbm without PageValues"] = figures(out_of_fold(CELLS[0], bare, labels), labels)
    results["target missed"] = resplits(scores["lightgbm"], labels, splits)
    print(json.dumps(results | {"rows": len(labels), "seconds": round(time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
