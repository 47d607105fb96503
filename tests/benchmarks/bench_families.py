"""What each family of features earns: `python -m tests.benchmarks.bench_families [--write]`.

On each log a model is fitted on earlier cut-offs and judged by average precision on later ones, all of
them before the period kept for testing. For each family two differences are taken on the same validation
rows: what it adds to a model that has `activity` and `recency` only, and what all families together lose
without it; each with a paired interval (users resampled). `--write` puts the table into docs/features.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score

from retail_core import sources
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.definitions import FEATURE_FAMILIES
from retail_core.features.docs import with_measured
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_ARROW
from retail_core.simulate import SimulationConfig, simulate
from retail_core.times import zone
from tests.feature_logs import FolderLake

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
CORE = ("activity", "recency")
ROUNDS = 100
SEEDS = (1,)
PARAMETERS = {
    "objective": "binary", "learning_rate": 0.08, "num_leaves": 15, "min_data_in_leaf": 40, "max_bin": 63,
    "feature_fraction": 0.5, "lambda_l2": 5.0, "num_threads": 1, "deterministic": True, "verbosity": -1,
}  # fmt: skip
TREES = 80


@dataclass(frozen=True)
class Log:
    """A log to measure on.

    Attributes:
        name: in the table.
        lake: its events.
        task: look-back and zone.
        fit: days whose midnights make the rows to learn from.
        evaluation: later days, whose labels all end before the period kept for testing.
        in_session: cut-offs within 30 minutes after an event of those days, instead of midnights.
    """

    name: str
    lake: FolderLake
    task: PredictionTask
    fit: Sequence[date]
    evaluation: Sequence[date]
    in_session: bool = False


@dataclass(frozen=True)
class Rows:
    """Features, labels and users of some pairs."""

    x: np.ndarray
    y: np.ndarray
    users: np.ndarray


def days(first: str, last: str, step: int = 1) -> list[date]:
    """Every `step`-th day of [first, last]."""
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    return [begin + timedelta(days=n) for n in range(0, (end - begin).days + 1, step)]


def lake_of(folder: Path, name: str, files: Iterable[Path], preset: str) -> FolderLake:
    """The files' events, each id once, as one Parquet file."""
    chunks = [
        chunk.events.assign(properties=None)
        for path in files
        for chunk in sources.read_events(path, sources.get_preset(preset))
    ]
    events = pd.concat(chunks, ignore_index=True).drop_duplicates("event_id")
    path = folder / f"{name}.parquet"
    pq.write_table(pa.Table.from_pandas(events, schema=EVENT_ARROW, preserve_index=False), path)
    return FolderLake(path)


def logs(folder: Path) -> Iterable[Callable[[], Log]]:
    """Taobao head, Online Retail, a simulation: midnights, and instants within a session."""
    taobao = lake_of(folder, "taobao", [DATA / "taobao" / "UserBehavior_head.csv.gz"], "taobao")
    china = PredictionTask(timezone="Asia/Shanghai")
    # Testing is on the cut-offs from 29 November on.
    fit, evaluation = days("2017-11-26", "2017-11-27"), days("2017-11-28", "2017-11-28")
    yield lambda: Log("Taobao", taobao, china, fit, evaluation)
    yield lambda: Log("Taobao, in session", taobao, china, days("2017-11-25", "2017-11-26"), fit[1:], True)
    retail = lake_of(folder, "retail", sorted((DATA / "online_retail").glob("*.csv.gz")), "online_retail")
    # Testing is on November 2011. Steps of 9 and 5 days meet every weekday.
    yield lambda: Log(
        "Online Retail", retail, PredictionTask(lookback_days=90, eligible_days=90),
        days("2011-04-01", "2011-08-30", 9), days("2011-09-02", "2011-10-30", 5),
    )  # fmt: skip
    written = folder / "log.csv"
    simulate(SimulationConfig(users=4_000, days=60, seed=11), written)
    simulated = lake_of(folder, "simulated", [written], "canonical")
    fit, evaluation = days("2025-01-29", "2025-02-16", 2), days("2025-02-18", "2025-02-26")
    yield lambda: Log("Simulation", simulated, PredictionTask(timezone="UTC"), fit, evaluation)
    yield lambda: Log(
        "Simulation, in session", simulated, PredictionTask(timezone="UTC"), fit, evaluation, True
    )


def pairs_of(log: Log, dates: Sequence[date]) -> pd.DataFrame:
    """Eligible users at the midnights; in session, one random event of each user and day, 0 to 30 min on."""
    tz = zone(log.task.timezone)
    if not log.in_session:
        midnights = [datetime(d.year, d.month, d.day, tzinfo=tz) for d in dates]
        return daily_pairs(log.lake, log.task, midnights)
    events = pq.read_table(log.lake.events, columns=["user_id", "event_time"]).to_pandas()
    events["day"] = events["event_time"].dt.tz_convert(tz).dt.date
    events = events[events["day"].isin(dates)].sort_values(["user_id", "event_time"])
    some = events.groupby(["user_id", "day"]).sample(1, random_state=5)
    wait = np.random.default_rng(5).integers(1, 1_800_000, len(some))
    as_of = (some["event_time"] + pd.to_timedelta(wait, unit="ms")).dt.as_unit("ms")
    return pd.DataFrame({"user_id": some["user_id"].astype("str"), "as_of": as_of}).reset_index(drop=True)


def rows_of(log: Log, dates: Sequence[date], feature_set: FeatureSet) -> Rows:
    """Every feature of the pairs, and whether they bought."""
    pairs = pairs_of(log, dates)
    frame = compute_features(log.lake, pairs, feature_set)
    bought = label_pairs(log.lake, log.task, pairs).to_numpy(bool)
    return Rows(frame[list(feature_set.columns)].to_numpy(np.float32), bought, pairs["user_id"].to_numpy())


def scores(fit: Rows, evaluation: Rows, columns: np.ndarray) -> np.ndarray:
    """Mean prediction on the judged rows by models that see these columns."""
    data = lightgbm.Dataset(fit.x[:, columns], fit.y, params={"verbosity": -1})
    scores_by_seed = []
    for seed in SEEDS:
        model = lightgbm.train({**PARAMETERS, "seed": seed}, data, TREES)
        scores_by_seed.append(np.asarray(model.predict(evaluation.x[:, columns])))
    return np.mean(scores_by_seed, axis=0)


def gain(evaluation: Rows, better: np.ndarray, worse: np.ndarray) -> tuple[float, float, float]:
    """Difference of average precision and its 95 % interval, users resampled."""
    codes, users = pd.factorize(evaluation.users)
    draws = np.random.default_rng(3).multinomial(len(users), np.full(len(users), 1 / len(users)), ROUNDS)
    weights = np.vstack([np.ones(len(users)), draws])[:, codes]
    precisions = precision(evaluation.y, better, weights) - precision(evaluation.y, worse, weights)
    low, high = np.percentile(precisions[1:], [2.5, 97.5])
    return float(precisions[0]), float(low), float(high)


def precision(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision by row of `weights`; equal scores count as one step, as in scikit-learn."""
    order = np.argsort(-score, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(score[order]) != 0, True])
    weighted = weights[:, order]
    hits = np.cumsum(weighted * y[order], axis=1)[:, last]
    share = hits / np.maximum(np.cumsum(weighted, axis=1)[:, last], 1e-12)
    steps = np.diff(hits, axis=1, prepend=0)
    return np.asarray((steps * share).sum(axis=1) / hits[:, -1])


def measure(log: Log) -> dict[str, object]:
    """AP of all families, of the core, and two gains a family."""
    feature_set = default_feature_set(log.task)
    fit, evaluation = (rows_of(log, dates, feature_set) for dates in (log.fit, log.evaluation))
    of = {
        name: family.name
        for family in FEATURE_FAMILIES
        for entry in family.definitions
        for name in (feature.name for feature in entry.expand(log.task.windows))
    }
    family_of = np.array([of[name] for name in feature_set.columns])
    core = np.isin(family_of, CORE)
    all_families, least = scores(fit, evaluation, np.ones(len(core), bool)), scores(fit, evaluation, core)
    gains = {}
    for family in FEATURE_FAMILIES:
        family_columns = family_of == family.name
        added = (
            None
            if family.name in CORE
            else gain(evaluation, scores(fit, evaluation, core | family_columns), least)
        )
        gains[family.name] = {
            "added": added,
            "without": gain(evaluation, all_families, scores(fit, evaluation, ~family_columns)),
        }
    return {
        "rows": len(evaluation.y), "buyers": int(evaluation.y.sum()), "base_rate": float(evaluation.y.mean()),
        "fitted_on": len(fit.y), "families": gains,
        "ap": float(average_precision_score(evaluation.y, all_families)),
        "ap_core": float(average_precision_score(evaluation.y, least)),
    }  # fmt: skip


def table(results: dict[str, dict]) -> str:  # type: ignore[type-arg]
    """The measured part of docs/features.md."""
    names = list(results)
    lines = [
        "## Contribution of each family", "",
        "Average precision in hundredths, on cut-offs after those of the fit and before the test period",
        "(`python -m tests.benchmarks.bench_families --write`): first the gain of adding it to `activity`",
        "and `recency`, then the loss of removing it from all families; in brackets the paired 95 %",
        "bootstrap interval over users. Bold where it is above zero. LightGBM with fixed parameters.",
        "One fit per cell: its randomness is not in the interval, and as large as most of these differences.",
        "",
        "| family | " + " | ".join(names) + " |", "|---|" + "---|" * len(names),
    ]  # fmt: skip
    for family in FEATURE_FAMILIES:
        cells = [cell(results[name]["families"][family.name]) for name in names]
        lines.append(f"| {family.name} | " + " | ".join(cells) + " |")
    for title, key, form in (
        ("all families", "ap", "{:.4f}"), ("`activity` and `recency`", "ap_core", "{:.4f}"),
        ("rows evaluated", "rows", "{:,}"), ("positive rows", "buyers", "{:,}"),
    ):  # fmt: skip
        lines.append(f"| {title} | " + " | ".join(form.format(results[name][key]) for name in names) + " |")
    return "\n".join([*lines, ""])


def cell(gains: dict[str, tuple[float, float, float] | None]) -> str:
    """Both gains of a family on a log."""
    return "; ".join("-" if g is None else spelt(*g) for g in (gains["added"], gains["without"]))


def spelt(value: float, low: float, high: float) -> str:
    """In hundredths; bold where the interval lies above zero."""
    text = f"{100 * value:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    return f"**{text}**" if low > 0 else text


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="only logs whose name begins so; nothing is written")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for make in logs(Path(folder)):
            started, log = time.perf_counter(), make()
            if not log.name.startswith(arguments.only):
                continue
            results[log.name] = measure(log)
            print(
                log.name, f"{time.perf_counter() - started:.0f} s", json.dumps(results[log.name]), flush=True
            )
    print(table(results))
    if arguments.write and not arguments.only:
        path = ROOT / "docs" / "features.md"
        path.write_text(with_measured(table(results)))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
