"""A ranker for every cut-off policy against one for all, on the same rows of simulated shops.

    python -m tests.benchmarks.bench_policies [--seeds 4]

For shops of three sizes and one cell of each family: average precision on the next midnight (`daily`) and
on the next day's instants (`in-session`), which nothing has seen; the mean over the seeds. Prints one JSON
line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from retail_core.features.cutoffs.policies import IN_SESSION
from retail_core.features.engine import EngineOptions
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset
from retail_core.model.families import RankerConfig
from retail_core.model.fitting import fit_ranker, make_fit_plan
from retail_core.model.labelled import build_labelled_rows
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake
from tests.benchmarks.simulated_lake import START, simulated_days

SHOPS = {
    "5,000 users, 8 days": (5_000, 8),
    "800 users, 40 days": (800, 40),
    "20,000 users, 45 days": (20_000, 45),
}
CELLS = (
    RankerConfig("logistic", {"C": 0.01}),
    RankerConfig("lightgbm", {"n_estimators": 100, "max_depth": 3, "min_samples_leaf": 80}),
    RankerConfig("rf", {"n_estimators": 100, "max_depth": 14, "min_samples_leaf": 20}),
)
POLICIES = ("daily", IN_SESSION)
TASK, SETTINGS = PredictionTask(timezone="UTC"), Settings()


def one_shop(folder: Path, users: int, days: int, seed: int) -> dict[str, list[float]]:
    """By family and policy: the average precision of a ranker for all, and of one for the policy."""
    lake = cast("Lake", simulated_days(folder, users, days + 2, seed)[0])
    as_of = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=days)
    engine = EngineOptions.from_settings(SETTINGS)
    labelled = build_labelled_rows(lake, TASK, POLICIES, as_of, engine)
    data = dataset.build_training_data(lake, labelled, TASK, SETTINGS, as_of=as_of)
    later = build_labelled_rows(lake, TASK, POLICIES, as_of + timedelta(days=2), engine).rows
    day = later["as_of"].between(
        pd.Timestamp(as_of), pd.Timestamp(as_of + timedelta(days=1)), inclusive="left"
    )
    later = later[day].reset_index(drop=True)
    matrix_later, labels = (
        dataset.compute_feature_matrix(lake, later, data.feature_set, engine),
        later["label"].to_numpy(bool),
    )
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    results = {}
    for choice in CELLS:
        recipe = make_fit_plan(data, choice, 1)
        own_rankers = fit_ranker(rows, matrix, data.refit_sampling, recipe)
        shared_ranker = fit_ranker(
            rows, matrix, data.refit_sampling, replace(recipe, own_rankers=frozenset())
        )
        for policy in POLICIES:
            of_policy = later["policy"].eq(policy).to_numpy(bool)
            scores = (
                shared_ranker.raw_score(matrix_later[of_policy]),
                own_rankers.raw_score(matrix_later[of_policy], policy),
            )
            results[f"{choice.family} {policy}"] = [
                average_precision_score(labels[of_policy], score) for score in scores
            ]
    return results


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=4)
    seeds, started, figures = range(1, parser.parse_args().seeds + 1), time.perf_counter(), {}
    for name, (users, days) in SHOPS.items():
        shops = []
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                shops.append(one_shop(Path(folder), users, days, seed))
        figures[name] = {
            key: np.mean([shop[key] for shop in shops], axis=0).round(4).tolist() for key in shops[0]
        }
    print(json.dumps({"for all, apart": figures, "seconds": round(time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
