"""Rows, features and weekly trainings of a real shop, cached on disk for the replay of retraining policies.

A training at week W is the same for every policy, so each is done once: the project's own search, operating
points and refit, on every row whose label is known at W. Features of all (user, midnight) pairs are computed
at once, which changes nothing: they are point-in-time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.arrays import Float32Array, FloatArray
from retail_core.errors import DataError
from retail_core.features.engine import EngineOptions
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import evaluate, log_loss_improvement, metric_intervals
from retail_core.model.families import RankerConfig
from retail_core.model.labelled import LabelledRows
from retail_core.model.sampling import Sampling
from retail_core.model.splits import PERIODS, PeriodSplit
from retail_core.schemas import TrainingRows
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake
from retail_core.times import midnights
from retail_core.training.recalibration_fit import fit_recalibration
from retail_core.training.recalibration_rows import MAX_DAYS, assign_periods
from retail_core.training.version_spec import reference_metrics
from tests.benchmarks.bench_features import DayFiles
from tests.benchmarks.bench_real import rows_at
from tests.benchmarks.source_lake import write_lake

TASK = PredictionTask(timezone="UTC", eligible_days=28, lookback_days=180)
SETTINGS = Settings(search_rows=8_000, fit_rows=30_000)
"""A small budget, the same for every training."""
FAMILY = "lightgbm"
GOAL = procedure.RecallGoal(0.95, 0.95, SETTINGS.seed)
FIRST_DAY, LAST_DAY = datetime(2010, 1, 1, tzinfo=UTC), datetime(2011, 12, 8, tzinfo=UTC)
WEEK = timedelta(days=7)

Result = TypeVar("Result")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShopRows:
    """Every (user, midnight) pair of the shop in order of time, with features, and events by day."""

    rows: pd.DataFrame
    matrix: Float32Array
    feature_set: FeatureSet
    events: pd.Series

    def between(self, begin: datetime, end: datetime) -> slice:
        """Positions of the cut-offs in [begin, end)."""
        times = self.rows["as_of"]
        low, high = times.searchsorted([pd.Timestamp(begin), pd.Timestamp(end)])
        return slice(int(low), int(high))

    def events_before(self, instant: datetime) -> int:
        """Number of events before a midnight."""
        return int(self.events[self.events.index < instant.date().isoformat()].sum())


@dataclass(frozen=True)
class Training:
    """A model trained at a week, with what a version states about itself.

    Attributes:
        name: of the version.
        as_of: end of its data.
        model: as served.
        config: the selected configuration.
        columns: features of the model, positions in the shop's matrix.
        f1_threshold: threshold of `will_purchase`.
        reference: of its test rows, by the evaluation model.
        f1_interval: 95 % interval of the reference F1.
        buyers: buying rows that its calibrators were fitted on.
        seconds: duration.
    """

    name: str
    as_of: datetime
    model: CalibratedRanker
    config: RankerConfig
    columns: tuple[int, ...]
    f1_threshold: float
    reference: dict[str, float]
    f1_interval: tuple[float, float]
    buyers: int
    seconds: float

    def probability(self, shop: ShopRows, rows: slice) -> FloatArray:
        """Probabilities of rows of the shop."""
        return self.model.probability(shop.matrix[rows][:, list(self.columns)], "daily")


@dataclass(frozen=True)
class Recalibration:
    """A recalibrated model, and the gain in log loss of the procedure with its 95 % interval."""

    served: Training
    gain: tuple[float, float, float]


@dataclass(frozen=True)
class Cache:
    """Results by key below a folder whose name is the hash of the data and the options."""

    folder: Path
    data: str = field(default="")

    def get(self, key: str, compute: Callable[[], Result]) -> Result:
        """The stored result, else that of `compute`, stored."""
        options = f"{self.data}|{TASK}|{SETTINGS.search_rows}|{SETTINGS.fit_rows}|{FAMILY}"
        folder = self.folder / hashlib.sha256(options.encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{key}.pickle"
        if file.exists():
            return cast("Result", pickle.loads(file.read_bytes()))
        result = compute()
        partial = file.with_suffix(".partial")
        partial.write_bytes(pickle.dumps(result))
        partial.replace(file)
        return result


def digest_of(logs: list[Path]) -> str:
    """Hash of the names and sizes of the logs."""
    return hashlib.sha256(repr([(path.name, path.stat().st_size) for path in logs]).encode()).hexdigest()


def read_shop(logs: list[Path], cache: Cache) -> ShopRows:
    """Rows and features of Online Retail's logs; computed once per folder."""
    folder = cache.folder
    lake_folder, rows_file, matrix_file = folder / "lake", folder / "rows.parquet", folder / "matrix.npy"
    if not (folder / "lake.json").exists():
        lake_folder.mkdir(parents=True, exist_ok=True)
        write_lake(logs, "online_retail", lake_folder)
        (folder / "lake.json").write_text(json.dumps([path.name for path in logs]))
    lake = DayFiles(lake_folder)
    feature_set = default_feature_set(TASK, ())
    if not matrix_file.exists():
        cutoffs = list(midnights(FIRST_DAY, LAST_DAY, "UTC"))
        rows = rows_at(lake, TASK, cutoffs).sort_values(["as_of", "user_id"], ignore_index=True)
        engine = EngineOptions.from_settings(SETTINGS)
        matrix = dataset.compute_feature_matrix(cast("Lake", lake), rows, feature_set, engine)
        rows.to_parquet(rows_file)
        np.save(matrix_file, matrix)
    events = {Path(path).stem: len(pd.read_parquet(path, columns=["event_id"])) for path in lake.files()}
    matrix = np.load(matrix_file, mmap_mode="r")
    return ShopRows(pd.read_parquet(rows_file), matrix, feature_set, pd.Series(events))


def training_data(shop: ShopRows, as_of: datetime) -> TrainingData:
    """The data of a training: rows whose label is known at `as_of`."""
    known = shop.between(FIRST_DAY, as_of - TASK.horizon + timedelta(seconds=1))
    rows = shop.rows[known].reset_index(drop=True)
    labelled = LabelledRows(cast("DataFrame[TrainingRows]", rows.assign(position=rows.index)), (), as_of)
    planned = dataset.plan_training_rows(labelled, TASK, SETTINGS)
    matrix = shop.matrix[planned.rows["position"].to_numpy()]
    return planned.with_features(matrix, shop.feature_set, TASK)


def train_at(shop: ShopRows, as_of: datetime) -> Training:
    """Train as `retail train` does, with the small budget."""
    began = time.monotonic()
    data = training_data(shop, as_of)
    search = procedure.run_search(data, SETTINGS, FAMILY)
    model = procedure.fit_evaluation_model(data, search.config, SETTINGS.seed)
    scored = {name: procedure.score_period(model, data, name)["daily"] for name in PERIODS[1:]}
    points = procedure.choose_operating_points(scored["calibrate"], scored["certify"], GOAL)
    served = procedure.refit_for_serving(data, search.config, {"daily": points}, GOAL)
    metrics: dict[str, Any] = evaluate(scored["test"], points.f1)
    interval = metric_intervals(scored["test"], points.f1, SETTINGS.seed)["f1"]
    names = shop.feature_set.columns
    return Training(
        f"{as_of:%Y-%m-%d}",
        as_of,
        served.model,
        search.config,
        tuple(names.index(name) for name in data.feature_set.columns),
        points.f1,
        reference_metrics(scored["test"], metrics, points.f1),
        (interval[0], interval[1]),
        int(data.labelled.rows["label"].sum()),
        time.monotonic() - began,
    )


def recalibrate_at(shop: ShopRows, served: Training, as_of: datetime) -> Recalibration | None:
    """Recalibrate as `retail models recalibrate` does; None where the days do not suffice."""
    since = max(served.as_of, as_of - timedelta(days=MAX_DAYS))
    part = shop.between(since, as_of - TASK.horizon + timedelta(seconds=1))
    rows = shop.rows[part].reset_index(drop=True).assign(evaluated=True)
    if int(rows["label"].sum()) < SETTINGS.min_buyers:
        return None
    try:
        rows = assign_periods(rows, "daily")
    except DataError:
        return None
    empty, everything = np.empty(0, np.intp), Sampling(1.0, 1.0)
    data = TrainingData(
        rows=rows,
        matrix=shop.matrix[part][:, list(served.columns)],
        feature_set=shop.feature_set.select([shop.feature_set.columns[i] for i in served.columns]),
        dropped=(),
        split=PeriodSplit("successive", empty, empty, empty, empty),
        fit_sampling=everything,
        refit_sampling=everything,
        labelled=LabelledRows(cast("DataFrame[TrainingRows]", rows), (), as_of),
        task=TASK,
    )
    fit = fit_recalibration(served.model, data, GOAL)
    judged = fit.judged_rows["daily"]
    before = served.model.calibrate(judged.raw, "daily")
    gain = log_loss_improvement(judged, before, SETTINGS.seed)
    metrics: dict[str, Any] = evaluate(judged, fit.points["daily"].f1)
    interval = metric_intervals(judged, fit.points["daily"].f1, SETTINGS.seed)["f1"]
    changed = replace(
        served,
        name=f"{served.name}+{as_of:%m%d}",
        model=fit.model,
        f1_threshold=fit.points["daily"].f1,
        reference=reference_metrics(judged, metrics, fit.points["daily"].f1),
        f1_interval=(interval[0], interval[1]),
        buyers=int(rows["label"].to_numpy(bool)[fit.fitted].sum()),
    )
    return Recalibration(changed, gain)
