"""Scores of a simulated shop by a champion and refits of the same procedure, with the true probabilities.

The models are trained on the first 45 days; the daily lists of the days after are scored by each of them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from retail_core.arrays import Float32Array, FloatArray
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families import RankerConfig
from retail_core.model.fitting import cross_fit_and_refit, fit_calibrators, make_fit_plan
from retail_core.model.labelled import build_labelled_rows
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.store.lake.table import Lake
from retail_core.times import midnights
from tests.benchmarks.simulated_lake import START, DayFiles, simulated_days

TRAINED_DAYS = 45
SETTINGS = Settings(search_rows=10_000)
TASK = PredictionTask(timezone="UTC")
FIRST = datetime(START.year, START.month, START.day, tzinfo=UTC)


@dataclass(frozen=True)
class ShopScores:
    """The lists of the days after the training.

    Attributes:
        rows: `user_id`, `day` (0 is the first day), `truth` (probability of buying), `label`.
        models: probabilities of each model, champion first, shape (models, rows).
    """

    rows: pd.DataFrame
    models: FloatArray


def score_shop(users: int, days: int, seed: int, refits: int, family: str) -> ShopScores:
    """Simulate a shop of `users` accounts, train a champion and `refits`, and score `days` lists.

    A refit is fitted on a bootstrap sample of the users, so that it differs from the champion as a model of
    another period would.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, truth = Path(name), Path(name) / "truth.parquet"
        (folder / "days").mkdir()
        config = SimulationConfig(users=users, days=TRAINED_DAYS + days + 1, seed=seed, start=START)
        simulate(config, folder / "log.csv", truth)
        (folder / "log.csv").unlink()
        lake, _ = simulated_days(folder / "days", users, config.days, seed)
        as_of = FIRST + timedelta(days=TRAINED_DAYS)
        labelled = build_labelled_rows(cast("Lake", lake), TASK, ("daily",), as_of)
        data = dataset.build_training_data(cast("Lake", lake), labelled, TASK, SETTINGS, as_of=as_of)
        ranker = procedure.run_search(data, SETTINGS, family).config
        models = [fit_model(data, ranker, number) for number in range(refits + 1)]
        rows, matrix = lists(lake, data, as_of, days, truth)
    return ShopScores(rows, np.array([model.probability(matrix, "daily") for model in models]))


def fit_model(data: TrainingData, config: RankerConfig, number: int) -> CalibratedRanker:
    """The served model of the rows (number 0) or of a bootstrap sample of their users."""
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    if number:
        rng = np.random.default_rng(number)
        codes, names = pd.factorize(rows["user_id"])
        weights = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[codes]
        positions = np.repeat(np.arange(len(rows)), weights)
        rows, matrix = rows.iloc[positions], matrix[positions]
    rows = rows.reset_index(drop=True)
    plan = replace(make_fit_plan(data, config, SETTINGS.seed + number), policies=("daily",))
    raw, model = cross_fit_and_refit(data, rows, matrix, plan)
    labels = rows["label"].to_numpy(bool)
    label_weights = data.refit_sampling.weights(labels)
    model.set_params(calibrators=fit_calibrators(rows, raw, labels, label_weights, ("daily",)))
    return model


def lists(
    lake: DayFiles, data: TrainingData, first: datetime, days: int, truth: Path
) -> tuple[pd.DataFrame, Float32Array]:
    """Rows and features of the daily lists from `first` on."""
    last = first + timedelta(days=days - 1)
    pairs = daily_pairs(lake, TASK, list(midnights(first, last, "UTC"))).reset_index(drop=True)
    probabilities = pd.read_parquet(truth)
    probabilities["as_of"] = pd.to_datetime(probabilities["as_of"], utc=True).astype("datetime64[ms, UTC]")
    known = pairs.merge(probabilities, on=["user_id", "as_of"], how="left", validate="one_to_one")
    rows = pd.DataFrame(
        {
            "user_id": known["user_id"],
            "day": (known["as_of"] - pd.Timestamp(first)).dt.days,
            "truth": known["probability"].to_numpy(float),
            "label": known["purchased"].to_numpy(bool),
        }
    )
    matrix = dataset.compute_feature_matrix(
        cast("Lake", lake),
        pairs.assign(policy="daily"),
        data.feature_set,
        EngineOptions.from_settings(SETTINGS),
    )
    return rows, matrix
