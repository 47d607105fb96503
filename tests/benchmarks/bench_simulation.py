"""The whole procedure on simulated shops, whose true probabilities are known.

    python -m tests.benchmarks.bench_simulation [--seeds 5] [--users 20000]

For each seed a shop of 45 days is trained on and the refitted, served model is asked on the five days
after, which nothing has seen: average precision as a share of that of the true probabilities, calibration
error and slope; for instants within a session too, where no truth is known. The evaluation model's figures
on the test period stand beside it.

Certified recall: 100 stationary futures a seed. In each, every user gets one random day of the
certification and test periods, and users are dealt into two halves. In one, purchases are drawn from the
true probabilities and the threshold is set on the buyers; it misses if the recall that the true
probabilities let expect in the other half is below the target. The naive threshold's rate stands beside
it; `uncertified` counts the futures with too few buyers for a certificate, which promise nothing. Prints
one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from retail_core.arrays import FloatArray
from retail_core.features.cutoffs.policies import IN_SESSION, daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import ScoredRows, evaluate
from retail_core.model.labelled import build_labelled_rows
from retail_core.model.procedure import RecallGoal
from retail_core.model.thresholds import recall_threshold
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.store.lake.table import Lake
from retail_core.times import midnights
from tests.benchmarks.simulated_lake import START, DayFiles, simulated_days

DAYS, FUTURE = 45, 5
TARGET, CONFIDENCE, FUTURES = 0.95, 0.95, 100
POLICIES = ("daily", IN_SESSION)
SETTINGS = Settings()
GOAL = RecallGoal(TARGET, CONFIDENCE, SETTINGS.seed)
AS_OF = datetime(START.year, START.month, START.day, tzinfo=UTC) + timedelta(days=DAYS)
TASK = PredictionTask(timezone="UTC")


def with_truth(rows: pd.DataFrame, truth: Path) -> pd.DataFrame:
    """Rows (`user_id, as_of`) with the `probability` that is true and whether they `purchased`."""
    true_probabilities = pd.read_parquet(truth)
    true_probabilities["as_of"] = pd.to_datetime(true_probabilities["as_of"], utc=True).astype(
        "datetime64[ms, UTC]"
    )
    return rows.merge(true_probabilities, on=["user_id", "as_of"], how="left", validate="one_to_one")


def promises(rows: pd.DataFrame, raw: FloatArray, probability: FloatArray) -> dict[str, float]:
    """Figures of one policy's rows (`user_id, label`)."""
    labels = rows["label"].to_numpy(bool)
    metrics = evaluate(ScoredRows(rows["user_id"], labels, raw, probability), 0.5)
    shown = {name: round(float(metrics[name] or 0), 4) for name in ("ap", "ece", "slope", "base_rate")}
    return shown | {
        "mean": round(float(probability.mean()), 4),
        "n": len(labels),
        "buyers": int(labels.sum()),
    }


def on_future(lake: DayFiles, data: TrainingData, model: CalibratedRanker, truth: Path) -> dict[str, Any]:
    """The served model on the days after `AS_OF`, by policy."""
    end = AS_OF + timedelta(days=FUTURE)
    results: dict[str, Any] = {}
    sessions = build_labelled_rows(cast("Lake", lake), TASK, (IN_SESSION,), end).rows
    pairs = daily_pairs(lake, TASK, list(midnights(AS_OF, end - timedelta(days=1), "UTC")))
    daily = with_truth(pairs.assign(policy="daily"), truth)
    daily["label"] = daily["purchased"].astype(bool)
    for policy, rows in (("daily", daily), (IN_SESSION, sessions[sessions["as_of"] >= pd.Timestamp(AS_OF)])):
        all_rows = rows.reset_index(drop=True)
        matrix = dataset.compute_feature_matrix(
            cast("Lake", lake), all_rows, data.feature_set, EngineOptions.from_settings(SETTINGS)
        )
        raw = model.raw_score(matrix, policy)
        results[policy] = promises(all_rows, raw, model.calibrate(raw, policy))
    best = float(average_precision_score(daily["label"], daily["probability"]))
    results["daily"] |= {"truth_ap": round(best, 4), "share": round(results["daily"]["ap"] / best, 4)}
    return results


def futures(model: CalibratedRanker, data: TrainingData, truth: Path, seed: int) -> dict[str, int]:
    """In how many futures each kind of threshold misses the target."""
    later = data.rows["period"].isin(["certify", "test"]) & data.rows["policy"].eq("daily")
    rows, matrix = data.take((later & data.rows["evaluated"]).to_numpy(bool))
    score = model.raw_score(matrix, "daily")
    true = with_truth(rows[["user_id", "as_of"]].reset_index(drop=True), truth)["probability"].to_numpy()
    users = pd.factorize(rows["user_id"])[0]
    rng = np.random.default_rng(seed)
    missed = {"certified": 0, "naive": 0, "uncertified": 0}
    for _ in range(FUTURES):
        shuffled = rng.permutation(len(users))
        row_per_user = shuffled[np.unique(users[shuffled], return_index=True)[1]]
        first_half = rng.random(len(row_per_user)) < 0.5
        first, second = row_per_user[first_half], row_per_user[~first_half]
        buyers = score[first[rng.random(len(first)) < true[first]]]
        promised = recall_threshold(buyers, TARGET, CONFIDENCE)
        missed["uncertified"] += int(promised.certificate is None)
        thresholds = {"naive": float(np.quantile(buyers, 1 - TARGET, method="lower"))}
        if promised.certificate is not None:
            thresholds["certified"] = promised.threshold
        for name, threshold in thresholds.items():
            expected = np.average(score[second] >= threshold, weights=true[second])
            missed[name] += int(expected < TARGET)
    return missed


def one_shop(folder: Path, seed: int, users: int, model: str) -> dict[str, Any]:
    """A shop from its simulation to its figures."""
    started, truth = time.perf_counter(), folder / "truth.parquet"
    config = SimulationConfig(users=users, days=DAYS + FUTURE, seed=seed, start=START)
    simulate(config, folder / "again.csv", truth)
    (folder / "again.csv").unlink()
    lake, events = simulated_days(folder / "days", users, DAYS + FUTURE, seed)
    labelled = build_labelled_rows(cast("Lake", lake), TASK, POLICIES, AS_OF)
    data = dataset.build_training_data(cast("Lake", lake), labelled, TASK, SETTINGS, as_of=AS_OF)
    search = procedure.run_search(data, SETTINGS, model)
    evaluated = procedure.fit_evaluation_model(data, search.config, SETTINGS.seed)
    scored = {
        name: procedure.score_period(evaluated, data, name) for name in ("calibrate", "certify", "test")
    }
    points = {
        policy: procedure.choose_operating_points(
            scored["calibrate"][policy], scored["certify"][policy], GOAL
        )
        for policy in data.policies
    }
    served = procedure.refit_for_serving(data, search.config, points, GOAL).model
    tested = {
        policy: promises(
            pd.DataFrame({"user_id": scored_rows.users, "label": scored_rows.labels}),
            scored_rows.raw,
            scored_rows.probability,
        )
        for policy, scored_rows in scored["test"].items()
    }
    return {
        "seed": seed, "events": events, "chosen": f"{search.config.family} {dict(search.config.params)}",
        "served": on_future(lake, data, served, truth), "evaluation": tested,
        "missed": futures(evaluated, data, truth, seed), "seconds": round(time.perf_counter() - started),
    }  # fmt: skip


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=7)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--model", default="auto")
    arguments = parser.parse_args()
    shops = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "days").mkdir()
            shops.append(one_shop(Path(folder), seed, arguments.users, arguments.model))
    shares = [shop["served"]["daily"]["share"] for shop in shops]
    missed = {name: sum(shop["missed"][name] for shop in shops) for name in shops[0]["missed"]}
    print(
        json.dumps(
            {
                "share_of_truth_ap": [round(float(np.mean(shares)), 4), min(shares), max(shares)],
                "futures": FUTURES * len(shops), "missed": missed, "shops": shops,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
