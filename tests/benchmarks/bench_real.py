"""How well buyers of the next day are found in two real logs, trained only on days before each test day.

    python -m tests.benchmarks.bench_real online_retail
    python -m tests.benchmarks.bench_real taobao

Online Retail: every midnight (UTC) of November 2011, customers with a purchase in the 90 days before; one
model, fitted on November 1st on every earlier midnight that `retail train` would use. Taobao head:
midnights in Shanghai, one model a day. The search, the fit and the calibration are the project's own;
nothing looks at a test day. Prints one JSON line: figures with 95 % intervals (users resampled), and the
lead over plain rules on the same rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame
from sklearn.metrics import average_precision_score, roc_auc_score

from retail_core.arrays import BoolArray, FloatArray
from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.evaluation.metrics import ap_difference, bootstrap_user_weights
from retail_core.model.families import AUTO, select_families
from retail_core.model.fitting import fit_ranker, make_fit_plan
from retail_core.model.labelled import LabelledRows
from retail_core.schemas import TrainingRows
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake
from retail_core.times import midnights
from tests.benchmarks.bench_features import DayFiles
from tests.benchmarks.source_lake import SHARED_DATA, write_lake

SETTINGS = Settings(fit_rows=120_000, search_rows=60_000)
ENGINE = EngineOptions.from_settings(SETTINGS)


def rows_at(lake: DayFiles, task: PredictionTask, cutoffs: Sequence[datetime]) -> pd.DataFrame:
    """Eligible users at the cut-offs, with what they did."""
    pairs = daily_pairs(lake, task, cutoffs).assign(policy="daily")
    pairs["policy"] = pairs["policy"].astype("str")
    return pairs.assign(label=label_pairs(lake, task, pairs).to_numpy(bool))


def with_purchase(lake: DayFiles, rows: pd.DataFrame, days: int) -> BoolArray:
    """Which rows' users bought in the days before."""
    events = pd.concat(
        pd.read_parquet(path, columns=["user_id", "event_time", "event_type"]) for path in lake.files()
    )
    bought = events[events["event_type"].eq("purchase")].sort_values("event_time")
    order = rows["as_of"].argsort(kind="stable").to_numpy()
    left = rows.iloc[order][["user_id", "as_of"]].astype({"as_of": "datetime64[us, UTC]"})
    right = bought.assign(last=bought["event_time"].astype("datetime64[us, UTC]"))[["user_id", "last"]]
    joined = pd.merge_asof(
        left, right, left_on="as_of", right_on="last", by="user_id", allow_exact_matches=False
    )
    fresh = ((joined["as_of"] - joined["last"]) <= pd.Timedelta(days=days)).to_numpy(bool)
    mask = np.zeros(len(rows), bool)
    mask[order] = fresh
    return mask


def fit_at(
    lake: DayFiles, task: PredictionTask, as_of: datetime, rows: pd.DataFrame
) -> tuple[TrainingData, procedure.RefittedModel, Any]:
    """The project's procedure on labelled rows."""
    labelled = LabelledRows(cast("DataFrame[TrainingRows]", rows), (), as_of)
    data = dataset.build_training_data(cast("Lake", lake), labelled, task, SETTINGS, as_of=as_of)
    search = procedure.run_search(data, SETTINGS, AUTO)
    goal = procedure.RecallGoal(0.95, 0.95, SETTINGS.seed)
    model = procedure.fit_evaluation_model(data, search.config, SETTINGS.seed)
    scored = {name: procedure.score_period(model, data, name)["daily"] for name in ("calibrate", "certify")}
    points = procedure.choose_operating_points(scored["calibrate"], scored["certify"], goal)
    return data, procedure.refit_for_serving(data, search.config, {"daily": points}, goal), search


def online_retail(folder: Path) -> dict[str, Any]:
    """November 2011."""
    lake = write_lake(sorted((SHARED_DATA / "online_retail").glob("*.csv.gz")), "online_retail", folder)
    task = PredictionTask(timezone="UTC", eligible_days=90, lookback_days=300)
    november = datetime(2011, 11, 1, tzinfo=UTC)
    train = rows_at(lake, task, labelled_cutoffs(lake, task, november).cutoffs)
    test = rows_at(lake, task, list(midnights(november, datetime(2011, 11, 30, tzinfo=UTC), "UTC")))
    train = train[with_purchase(lake, train, 90)].reset_index(drop=True)
    test = test[with_purchase(lake, test, 90)].reset_index(drop=True)
    data, served, search = fit_at(lake, task, november, train)
    matrix = dataset.compute_feature_matrix(cast("Lake", lake), test, data.feature_set, ENGINE)
    scores = {
        search.config.family: (served.model.raw_score(matrix), served.model.probability(matrix, "daily"))
    }
    other_families = [family.name for family in select_families(AUTO) if family.name != search.config.family]
    for name in other_families:
        best = max((cell for cell in search.cells if cell.family == name), key=lambda cell: cell.mean_ap)
        rows, refit = data.take(data.rows["refit"].to_numpy(bool))
        ranker = fit_ranker(rows, refit, data.refit_sampling, make_fit_plan(data, best.config, SETTINGS.seed))
        scores[name] = (ranker.raw_score(matrix), ranker.raw_score(matrix))
    column = dict(zip(data.feature_set.columns, matrix.T.astype(np.float64), strict=True))
    rate = train.groupby(train["as_of"].dt.day_of_week)["label"].mean()
    weekday = test["as_of"].dt.day_of_week.map(rate).to_numpy()
    orders = next(column[name] for name in sorted(column) if name.startswith("orders_") and "300" in name)
    rules = {"orders x weekday": orders * weekday}
    return figures(test, scores, rules) | {
        "chosen": search.config.family, "params": search.best_params, "compared": search.compared,
        "train_rows": len(train), "first_cutoff": str(train["as_of"].min()),
        "features": len(data.feature_set.columns),
    }  # fmt: skip


def taobao(folder: Path) -> dict[str, Any]:
    """The two forward tests."""
    lake = write_lake([SHARED_DATA / "taobao" / "UserBehavior_head.csv.gz"], "taobao", folder)
    task = PredictionTask(timezone="Asia/Shanghai")
    result = {}
    for name, days in (("11-29 to 12-01", (29, 30, 31)), ("12-02 and 12-03", (32, 33))):
        tests, raw, probability, carts, families = [], [], [], [], []
        for day in days:
            as_of = datetime(2017, 10, 31, 16, tzinfo=UTC) + timedelta(days=day - 1)
            plan = labelled_cutoffs(lake, task, as_of)
            data, served, search = fit_at(lake, task, as_of, rows_at(lake, task, plan.cutoffs))
            test = rows_at(lake, task, [as_of])
            matrix = dataset.compute_feature_matrix(cast("Lake", lake), test, data.feature_set, ENGINE)
            tests.append(test)
            raw.append(served.model.raw_score(matrix))
            probability.append(served.model.probability(matrix, "daily"))
            carts.append(matrix[:, data.feature_set.columns.index("cart_count")].astype(np.float64))
            families.append(search.config.family)
        scores = {"model": (np.concatenate(probability), np.concatenate(probability))}
        rules = {"open cart": np.concatenate(carts)}
        result[name] = figures(pd.concat(tests, ignore_index=True), scores, rules) | {"chosen": families}
    return result


def figures(
    rows: pd.DataFrame, scores: dict[str, tuple[FloatArray, FloatArray]], rules: dict[str, FloatArray]
) -> dict[str, Any]:
    """AUC, AP, AUC within a day, lift at 10 %, Brier; the first model's lead over every other score."""
    labels, users = rows["label"].to_numpy(bool), rows["user_id"]
    best = next(iter(scores))
    result: dict[str, Any] = {"rows": len(rows), "buyers": int(labels.sum()), "base_rate": labels.mean()}
    for name, (raw, probability) in scores.items():
        result[name] = one_score(rows, labels, raw) | {"brier": float(np.mean((probability - labels) ** 2))}
    for name, rule in rules.items():
        result[name] = one_score(rows, labels, rule)
    for name, score in [(n, s[0]) for n, s in scores.items() if n != best] + list(rules.items()):
        lead = ap_difference(users, labels, scores[best][0], score, 7, replicates=200)
        result[f"ap lead over {name}"] = [round(value, 4) for value in lead]
    raw = scores[best][0]
    resampled = [
        (roc_auc_score(labels, raw, sample_weight=w), average_precision_score(labels, raw, sample_weight=w))
        for w in bootstrap_user_weights(users, 100, 7)
    ]
    for name, values in zip(("auc", "ap"), np.array(resampled).T, strict=True):
        result[f"{name} interval"] = [round(float(bound), 4) for bound in np.quantile(values, [0.025, 0.975])]
    return result


def one_score(rows: pd.DataFrame, labels: BoolArray, score: FloatArray) -> dict[str, float]:
    """Figures of one ranking."""
    days = rows["as_of"].to_numpy()
    within = [
        roc_auc_score(labels[days == day], score[days == day])
        for day in np.unique(days)
        if labels[days == day].any()
    ]
    top = np.argsort(-score, kind="stable")[: round(len(score) / 10)]
    return {
        "auc": float(roc_auc_score(labels, score)),
        "ap": float(average_precision_score(labels, score)),
        "auc_within_day": float(np.mean(within)),
        "lift_at_10": float(labels[top].mean() / labels.mean()),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=["online_retail", "taobao"])
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        measure = {"online_retail": online_retail, "taobao": taobao}[arguments.data]
        measured = measure(Path(folder))
    print(json.dumps(measured | {"seconds": round(time.perf_counter() - started)}, default=float))


if __name__ == "__main__":
    main()
