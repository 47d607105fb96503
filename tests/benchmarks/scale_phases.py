"""The steps that `bench_scale` measures, each in a process of its own: one JSON object on the last line.

python -m tests.benchmarks.scale_phases STEP --folder FOLDER --shop NAME --arrivals 5200 --days 90
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retail_core import sources
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import EngineOptions
from retail_core.features.feature_export import export_features
from retail_core.features.feature_set import default_feature_set
from retail_core.ingest import ingest
from retail_core.scoring.list_predictions import predict_eligible
from retail_core.scoring.scores import score
from retail_core.scoring.shop_context import store_shop_context
from retail_core.settings import Settings
from retail_core.store.lake.location import LakeLocation
from retail_core.store.lake.table import sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.workspace import Workspace
from tests.benchmarks.bench_spark import cluster
from tests.benchmarks.scale_lake import write_history, write_log
from tests.benchmarks.scale_shop import END, ShopSize, day_events, history, midnight
from tests.champion import champion_of

AS_OF = midnight(END)
NEXT_MIDNIGHT = AS_OF + timedelta(days=1)
WORKER_MEMORY, EXECUTOR_MEMORY = "3g", "2g"
Figures = dict[str, float]


@dataclass(frozen=True)
class Shop:
    """A simulated shop: its home and lake below a folder, and a database of its own."""

    folder: Path
    name: str
    size: ShopSize
    days: int

    @property
    def settings(self) -> Settings:
        """All shops share the home with the embedded MongoDB and the registry."""
        return Settings(
            home=self.folder / "home",
            lake=str(self.folder / self.name / "lake"),
            mongodb_database=f"scale_{self.name}",
        )


def seconds_of(work: Callable[[], object]) -> float:
    """Wall seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def generate(store: Store, shop: Shop) -> Figures:
    """Write the history."""
    events = write_history(store, shop.size, history(shop.days))
    files = LakeLocation(store.settings.lake_url).sizes("events")
    log = [size for path, size in files.items() if path.startswith("_delta_log")]
    return {
        "events": events,
        "lake_mb": (sum(files.values()) - sum(log)) / 1e6,
        "log_mb": sum(log) / 1e6,
        "log_files": len(log),
    }


def train_model(store: Store, shop: Shop) -> Figures:
    """Train and promote a model on the shop's history; the registry is that of all shops."""
    write_history(store, shop.size, history(shop.days))
    options = TrainOptions(policies=("daily",), model="lightgbm")
    report = train(Workspace(store), as_of=AS_OF, options=options)
    return {"version": float(report.version), "promoted": float(report.promoted)}


def features(store: Store, shop: Shop) -> Figures:
    """`retail features`: every feature of every eligible user at one midnight, as a Parquet file."""
    workspace = Workspace(store)
    out = shop.folder / shop.name / "features.parquet"
    report = export_features(workspace.lake, workspace.task, [AS_OF], out, engine=workspace.engine)
    return {"users": report["rows"], "features": report["features"], "file_mb": out.stat().st_size / 1e6}


def predict(store: Store, _: Shop) -> Figures:
    """Probabilities of every eligible user at one midnight, in memory."""
    workspace = Workspace(store)
    served = champion_of(store.settings)
    predictions = predict_eligible(workspace.lake.snapshot(), served, AS_OF, workspace.engine)
    return {"users": len(predictions), "expected_buyers": float(predictions["probability"].sum())}


def score_midnight(store: Store, shop: Shop, as_of: datetime = AS_OF) -> Figures:
    """`retail score`: the list as CSV with reasons, the predictions in MongoDB and the lake."""
    report = score(Workspace(store), as_of=as_of, out=shop.folder / shop.name / "scores.csv")
    return {"users": report.users, "expected_buyers": report.expected_buyers, "inner": report.seconds}


def new_day(store: Store, shop: Shop) -> Figures:
    """Ingest the first day that the lake lacks, synchronize it, and compute the shop's context."""
    present = Workspace(store).lake.state().days
    day = END + timedelta(days=sum(name >= END.isoformat() for name in present))
    log = shop.folder / shop.name / f"{day}.csv"
    events = day_events(shop.size, day)
    write_log(events, log)
    options = sources.get_preset("canonical")
    figures = {"events": float(len(events))}
    figures["ingest_seconds"] = seconds_of(lambda: ingest(store, [log], options, at=datetime.now(UTC)))
    figures["sync_seconds"] = seconds_of(lambda: sync(store))
    figures["repeated_sync_seconds"] = seconds_of(lambda: sync(store))
    figures["context_seconds"] = seconds_of(lambda: store_shop_context(Workspace(store)))
    figures["list_cutoff_seconds"] = seconds_of(lambda: Workspace(store).list_cutoff(None))
    return figures


def score_next(store: Store, shop: Shop) -> Figures:
    """`retail score` at the midnight after the new day."""
    return score_midnight(store, shop, NEXT_MIDNIGHT)


def opening(store: Store, _: Shop) -> Figures:
    """Open the lake, read its state, pin it, and list the files of one look-back."""
    workspace = Workspace(store)
    start = AS_OF - workspace.task.lookback
    figures = {
        "state_seconds": seconds_of(workspace.lake.state),
        "files_seconds": seconds_of(lambda: workspace.lake.snapshot().files(start, AS_OF)),
        "window_files": len(workspace.lake.files(start, AS_OF)),
        "all_files": len(workspace.lake.files()),
    }
    figures["eligible_seconds"] = seconds_of(lambda: daily_pairs(workspace.lake, workspace.task, [AS_OF]))
    return figures


def on_spark(store: Store, shop: Shop) -> Figures:
    """Features of one midnight on a standalone cluster of two workers, compared with those of DuckDB."""
    workspace, folder = Workspace(store), shop.folder / shop.name
    lake, task = workspace.lake.snapshot(), workspace.task
    (folder / "spark-defaults.conf").write_text(f"spark.executor.memory {EXECUTOR_MEMORY}\n")
    os.environ |= {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1"}
    pairs, feature_set = daily_pairs(lake, task, [AS_OF]), default_feature_set(task)
    rows: dict[str, pd.DataFrame] = {}

    def compute(name: str, engine: EngineOptions) -> float:
        return seconds_of(
            lambda: rows.update({name: compute_features(lake, pairs, feature_set, engine=engine)})
        )

    figures = {"pairs": float(len(pairs)), "duckdb_seconds": compute("duckdb", workspace.engine)}
    with cluster(folder, WORKER_MEMORY) as (url, _):
        figures["spark_seconds"] = compute("spark", EngineOptions("spark", spark_master=url))
    left, right = (rows[name][list(feature_set.columns)].to_numpy() for name in ("duckdb", "spark"))
    figures["equal_nulls"] = float((np.isnan(left) == np.isnan(right)).all())
    figures["largest_difference"] = float(np.nanmax(np.abs(left - right)))
    pd.testing.assert_frame_equal(rows["spark"], rows["duckdb"], rtol=0, atol=1e-9)
    return figures


STEPS: dict[str, Callable[[Store, Shop], dict[str, Any]]] = {
    "train": train_model,
    "generate": generate,
    "opening": opening,
    "features": features,
    "predict": predict,
    "score": score_midnight,
    "day": new_day,
    "score_next": score_next,
    "spark": on_spark,
}


def main() -> None:
    """Run one step and print its figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shop", required=True)
    parser.add_argument("--arrivals", type=int, required=True)
    parser.add_argument("--days", type=int, required=True)
    options = parser.parse_args()
    shop = Shop(options.folder, options.shop, ShopSize(options.arrivals), options.days)
    (shop.folder / shop.name).mkdir(parents=True, exist_ok=True)
    with open_store(shop.settings) as store:
        figures = STEPS[options.step](store, shop)
    print(json.dumps({name: round(value, 12) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
