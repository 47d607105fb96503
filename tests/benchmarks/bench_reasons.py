"""What reasons cost beside a scored file: `python -m tests.benchmarks.bench_reasons [--users 20000]`.

The log is `retail simulate`'s over 45 days. Both kinds of trees are fitted on one day in the largest size of
the search, LightGBM with 300 trees of depth 5 and a forest with 200 of depth 14. Prints one JSON line:
seconds that everybody's features take, and for each model seconds to score everybody, seconds that reasons
add to a file (features of the explained computed again, Shapley values, sentences), how many of the first
1,000 the bound on the work lets be explained, milliseconds for one user, and how far values and
average together are from the raw score at most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pandera.typing.pandas import DataFrame

from retail_core.arrays import Float32Array
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.explanations.contributions import max_explainable_rows, shapley_values
from retail_core.model.explanations.reasons import explain_rows
from retail_core.model.families import RankerConfig
from retail_core.model.feature_matrix import to_matrix
from retail_core.schemas import Pairs
from retail_core.scoring.reason_columns import MOST_EXPLAINED, WORK
from tests.benchmarks.simulated_lake import START, simulated_days

DAYS, ROWS_TIMED = 45, 20
LARGEST = {
    "lightgbm": RankerConfig("lightgbm", {"n_estimators": 300, "max_depth": 5, "min_samples_leaf": 20}),
    "rf": RankerConfig("rf", {"n_estimators": 200, "max_depth": 14, "min_samples_leaf": 5}),
}


def seconds(work: Callable[[], object]) -> float:
    """On the wall."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(
    model: CalibratedRanker, features: FeatureSet, matrix: Float32Array, feature_seconds: float
) -> dict[str, object]:
    """Of one model; `again` is what the features of the explained cost."""
    explained = min(MOST_EXPLAINED, max_explainable_rows(model, WORK), len(matrix))
    top = matrix[np.argsort(-model.raw_score(matrix), kind="stable")[:explained]]
    explain_rows(model, features, top[:1])
    single = [
        seconds(lambda row=row: explain_rows(model, features, top[row : row + 1]))
        for row in range(ROWS_TIMED)
    ]
    return {
        "score_seconds": round(seconds(lambda: model.raw_score(matrix)), 2),
        "explained": explained,
        "reasons_seconds": round(feature_seconds + seconds(lambda: explain_rows(model, features, top)), 2),
        "one_user_ms": round(statistics.median(single) * 1000, 1),
        "furthest_from_sum": furthest(model, top[:ROWS_TIMED]),
    }


def furthest(model: CalibratedRanker, rows: Float32Array) -> float:
    """How far values and average together are from the raw score, at most."""
    booster = getattr(model.ranker(), "booster", None)
    raw = booster.predict(rows, raw_score=True) if booster else model.raw_score(rows)
    return float(np.ptp(raw - shapley_values(model, rows).sum(axis=1)))


def run(folder: Path, users: int) -> dict[str, object]:
    """Simulate, fit and measure."""
    lake, events = simulated_days(folder, users, DAYS)
    task = PredictionTask()
    features = default_feature_set(task)
    as_of = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=DAYS - 2)
    pairs = daily_pairs(lake, task, [as_of])
    begun = time.perf_counter()
    rows = compute_features(lake, pairs, features)
    all_features = time.perf_counter() - begun
    matrix = to_matrix(rows[list(features.columns)])
    labels = label_pairs(lake, task, pairs)
    few = DataFrame[Pairs](pairs.head(MOST_EXPLAINED))
    feature_seconds = seconds(lambda: compute_features(lake, few, features))
    figures = {
        name: measure(
            CalibratedRanker({"daily": choice.build(1).fit(matrix, labels)}),
            features,
            matrix,
            feature_seconds,
        )
        for name, choice in LARGEST.items()
    }
    return {"events": events, "users": len(pairs), "features_seconds": round(all_features, 2)} | {
        "features_again_seconds": round(feature_seconds, 2),
        **figures,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=20_000)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(Path(folder), parser.parse_args().users)))


if __name__ == "__main__":
    main()
