"""The grid of the forest, 6 cells x 4 folds on 100,000 rows x 40 features, beside stock scikit-learn.

    python -m tests.benchmarks.bench_grid

Both go through `GridSearchCV` with the same cells, folds and seed, one after the other in the same
process; what differs is the forest. Prints one JSON line: seconds of each, their ratio, and by how much the
average precision of a cell differs.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from retail_core.arrays import BoolArray, Float32Array
from retail_core.model.families import MODEL_FAMILIES

SEED = 7
GRID = {"n_estimators": [50, 100, 150], "max_depth": [8, 12], "min_samples_leaf": [10]}


def rows(count: int, features: int) -> tuple[Float32Array, BoolArray]:
    """Skewed features of which a quarter bear on the answer; about one row in six buys."""
    rng = np.random.default_rng(SEED)
    matrix = rng.gamma(1.0, 2.0, (count, features)).astype(np.float32)
    weight = np.where(np.arange(features) < features // 4, rng.normal(0, 0.4, features), 0.0)
    odds = matrix @ weight + 1.5 * ((matrix[:, 0] > 3) & (matrix[:, 1] > 2))
    odds += np.log(0.1 / 0.9) - odds.mean()
    return matrix, rng.random(count) < 1 / (1 + np.exp(-odds))


def searched(forest: Any, matrix: Float32Array, labels: BoolArray) -> tuple[float, np.ndarray]:
    """Seconds, and the mean average precision of each cell."""
    folds = StratifiedKFold(4, shuffle=True, random_state=SEED)
    grid = GridSearchCV(forest, GRID, scoring="average_precision", cv=folds, refit=False)
    started = time.perf_counter()
    grid.fit(matrix, labels)
    return time.perf_counter() - started, np.asarray(grid.cv_results_["mean_test_score"])


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    matrix, labels = rows(parser.parse_args().rows, 40)
    fast, engine = MODEL_FAMILIES["rf"].search_estimator(SEED)
    fast.fit(matrix[:1_000], labels[:1_000])
    ours, fast_ap = searched(fast, matrix, labels)
    stock, expected = searched(RandomForestClassifier(random_state=SEED, n_jobs=2), matrix, labels)
    print(
        json.dumps(
            {
                "engine": engine, "rows": len(labels), "features": matrix.shape[1],
                "base_rate": round(float(labels.mean()), 4), "seconds": round(ours, 1),
                "stock_seconds": round(stock, 1), "ratio": round(ours / stock, 3),
                "ap": [round(float(value), 4) for value in fast_ap],
                "largest_ap_difference": round(float(np.abs(fast_ap - expected).max()), 4),
                "best_ap_difference": round(float(fast_ap.max() - expected.max()), 4),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
