"""Simulated shops with one model each, reduced to what the triggers read: counts by matured day.

A shop is simulated in memory, without MongoDB and MLflow: events go to Parquet files by day, features of all
midnights are computed at once, and one LightGBM configuration is fitted by the project's own procedure
(evaluation model, operating points, refit for serving) without a search. Branches of one shop share all days
before the drift. Results are cached as JSON, one file per shop.
"""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from retail_core.arrays import Float32Array
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.definitions import expand_definitions
from retail_core.features.engine import EngineOptions
from retail_core.features.kinds import Clock, Context
from retail_core.features.prediction_task import PredictionTask
from retail_core.model import dataset, procedure
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import evaluate, metric_intervals
from retail_core.model.explanations.contributions import ranked_importance
from retail_core.model.families import RankerConfig
from retail_core.model.feature_matrix import MISSING
from retail_core.model.labelled import build_labelled_rows
from retail_core.model.procedure import RecallGoal
from retail_core.monitoring.drift_measurement import REFERENCE_WINDOWS, WINDOW_DAYS
from retail_core.monitoring.drift_statistics import drifted_importance, feature_drifts
from retail_core.schemas import EVENT_ARROW
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig
from retail_core.simulate.output_files import Renderer
from retail_core.simulate.simulation import World
from retail_core.simulate.simulation_config import Day, calendar
from retail_core.store.lake.table import Lake
from retail_core.training.version_spec import reference_metrics

USERS, TRAIN_DAYS = 3_000, 45
TASK = PredictionTask(timezone="UTC")
SETTINGS = Settings()
GOAL = RecallGoal(0.95, 0.95, SETTINGS.seed)
CONFIG = RankerConfig("lightgbm", {"n_estimators": 100, "max_depth": 3, "min_samples_leaf": 80})
NO_DRIFT, DRIFTED_DAYS = "none", 8
_SETTLING_DAYS = 35
"""Days before the drift that are evaluated: the longest window of a trigger and a week."""

DRIFT_PERIOD = 2 * WINDOW_DAYS
"""Drift is checked every so many days: its two newest windows are then new."""

_COLUMNS = ", ".join(EVENT_ARROW.names)
_PARSE = """
    select printf('%032x', row_number() over ()) event_id, user_id, event_time::timestamptz event_time,
        event_type, item_id, category, brand, round(price::double * 100)::bigint price_minor,
        quantity::bigint quantity, currency, session_id, platform, order_id, null::varchar properties
    from batch
"""


@dataclass(frozen=True)
class DayRow:
    """One matured day as the triggers see it: a list's counts, and the day's share of drifted importance."""

    day: date
    rows: int
    buyers: int
    promised: float
    squares: float
    true_positives: int
    false_positives: int
    events: int
    drifted: float | None = None


@dataclass(frozen=True)
class Champion:
    """What a model version states about itself, and the days it served."""

    trained_until: date
    reference: dict[str, float]
    f1_interval: tuple[float, float]
    reference_buyers: int
    days: list[DayRow] = field(default_factory=list)


@dataclass(frozen=True)
class BranchLake:
    """Days of a shop before the drift, and those after it of one branch; a `LakeReader`."""

    folders: tuple[Path, ...]

    def files(self, start: datetime | None = None, end: datetime | None = None) -> list[str]:
        """Files of the days in the interval."""
        return [
            str(path)
            for path in sorted(p for folder in self.folders for p in folder.glob("*.parquet"))
            if (start is None or path.stem >= start.date().isoformat())
            and (end is None or path.stem <= end.date().isoformat())
        ]

    def users_file(self) -> None:
        """No user attributes."""

    def identities_file(self) -> None:
        """No identity links."""


def midnight(day: date) -> datetime:
    """The UTC midnight at the begin of `day`."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass
class Shop:
    """A shop that is simulated day by day; `branch` continues it under a drift without changing it."""

    config: SimulationConfig
    folder: Path

    def __post_init__(self) -> None:
        self._world = World(self.config)
        self._renderer = Renderer(self._world.catalogue, self.config.users)
        self._days = list(calendar(self.config))
        self._next = 0
        self.events: dict[date, int] = {}

    def live_until(self, index: int) -> BranchLake:
        """Simulate up to, not including, the day of that index."""
        days = [day for day in self._days[self._next :] if day.index < index]
        self._next += len(days)
        self.events |= self._live(self._world, days, self.folder / "before")
        return BranchLake((self.folder / "before",))

    def branch(self, drift: str | None, count: int) -> tuple[BranchLake, dict[date, int]]:
        """The shop continued for that many days under a drift, and its events by day."""
        days = [replace(day, drift=drift) for day in self._days[self._next : self._next + count]]
        folder = self.folder / str(drift)
        events = self._live(copy.deepcopy(self._world), days, folder)
        return BranchLake((self.folder / "before", folder)), self.events | events

    def _live(self, world: World, days: Sequence[Day], folder: Path) -> dict[date, int]:
        """Simulate the days and write one file for each; returns their numbers of events."""
        folder.mkdir(exist_ok=True)
        acted = [(day, world.tomorrow(day)[2]) for day in days]
        written = [(day.date, self._renderer.batch(events, day)) for day, events in acted if day.index >= 0]
        batch = pyarrow.Table.from_batches([rows for _, rows in written])  # noqa: F841 - read by DuckDB
        with duckdb.connect() as connection:
            connection.execute("set timezone = 'UTC'; set threads = 1")
            query = (
                f"from ({_PARSE}) select {_COLUMNS} order by event_time::date, user_id, event_time, event_id"
            )
            events = connection.sql(query).to_arrow_table()
        counts, start = {day: rows.num_rows for day, rows in written}, 0
        for day, count in counts.items():
            parquet.write_table(events.slice(start, count), folder / f"{day}.parquet")
            start += count
        return counts


@dataclass(frozen=True)
class FittedModel:
    """The served model, its operating threshold, and the training data it was fitted on."""

    data: TrainingData
    served: CalibratedRanker
    threshold: float
    champion: Champion


def fit_champion(lake: BranchLake, until: date) -> FittedModel:
    """Fit on every label known at the midnight of `until`, by the procedure of a training, without search."""
    reader = cast("Lake", lake)
    labelled = build_labelled_rows(reader, TASK, ("daily",), midnight(until))
    data = dataset.build_training_data(reader, labelled, TASK, SETTINGS, as_of=midnight(until))
    evaluation = procedure.fit_evaluation_model(data, CONFIG, SETTINGS.seed)
    names = ("calibrate", "certify", "test")
    scored = {name: procedure.score_period(evaluation, data, name)["daily"] for name in names}
    points = procedure.choose_operating_points(scored["calibrate"], scored["certify"], GOAL)
    refitted = procedure.refit_for_serving(data, CONFIG, {"daily": points}, GOAL)
    test = scored["test"]
    champion = Champion(
        trained_until=until,
        reference=reference_metrics(test, evaluate(test, points.f1), points.f1),
        f1_interval=metric_intervals(test, points.f1, SETTINGS.seed)["f1"],
        reference_buyers=int(labelled.rows["label"].sum()),
    )
    return FittedModel(data, refitted.model, refitted.thresholds["daily"]["f1"], champion)


@dataclass(frozen=True)
class ScoredDays:
    """Rows of successive midnights with features, label and probability."""

    rows: pd.DataFrame
    matrix: Float32Array


def score_days(lake: BranchLake, fitted: FittedModel, days: Sequence[date]) -> ScoredDays:
    """The lists of these midnights, with their outcomes."""
    reader, engine = cast("Lake", lake), EngineOptions.from_settings(SETTINGS)
    pairs = daily_pairs(reader, TASK, [midnight(day) for day in days])
    rows = pairs.assign(policy="daily").reset_index(drop=True)
    matrix = dataset.compute_feature_matrix(reader, rows, fitted.data.feature_set, engine)
    rows["label"] = label_pairs(reader, TASK, cast("Any", rows[["user_id", "as_of"]])).to_numpy(bool)
    rows["probability"] = fitted.served.probability(matrix, "daily")
    return ScoredDays(rows, matrix)


def day_rows(
    scored: ScoredDays, fitted: FittedModel, events: dict[date, int], *, with_drift: bool = True
) -> list[DayRow]:
    """Counts of each day, and its drift against the last midnights of the training data."""
    rows, drift = scored.rows, DriftByDay(fitted, scored) if with_drift else None
    selected = rows["probability"] >= fitted.threshold
    found: list[DayRow] = []
    for instant, positions in rows.groupby("as_of", sort=True).indices.items():
        p, label = rows["probability"].to_numpy()[positions], rows["label"].to_numpy(bool)[positions]
        chosen, day = selected.to_numpy()[positions], cast("pd.Timestamp", instant).date()
        found.append(
            DayRow(
                day=day,
                rows=len(positions),
                buyers=int(label.sum()),
                promised=float(p.sum()),
                squares=float((p**2).sum()),
                true_positives=int((chosen & label).sum()),
                false_positives=int((chosen & ~label).sum()),
                events=events.get(day, 0),
                drifted=drift.share(day) if drift else None,
            )
        )
    return found


class DriftByDay:
    """Share of importance in drifted features, as the trigger computes it, at every sixth midnight."""

    def __init__(self, fitted: FittedModel, scored: ScoredDays) -> None:
        columns = fitted.data.feature_set.columns
        definitions = expand_definitions(TASK)
        shared = {n for n, feature in definitions.items() if isinstance(feature.kind, Clock | Context)}
        self._indices = [i for i, name in enumerate(columns) if name not in shared]
        rows, matrix = fitted.data.rows, fitted.data.matrix
        until, last = fitted.champion.trained_until, matrix[-1_500:]
        importance = dict(ranked_importance(fitted.served, columns, last))
        self._indices = [i for i in self._indices if importance[columns[i]] > 0]
        self._importance = {columns[i]: importance[columns[i]] for i in self._indices}
        self._reference = self._windows(rows["as_of"], matrix, until, REFERENCE_WINDOWS)
        self._scored = scored

    def share(self, day: date) -> float | None:
        """At the midnight of `day`; None before six midnights have passed, and on days that are left out."""
        if day.toordinal() % DRIFT_PERIOD:
            return None
        newest = self._windows(self._scored.rows["as_of"], self._scored.matrix, day + timedelta(days=1), 2)
        if min(map(len, newest)) < 200:
            return None
        return drifted_importance(feature_drifts(self._reference, newest, self._importance))

    def _windows(self, times: pd.Series, matrix: Float32Array, end: date, count: int) -> list[Float32Array]:
        """Windows of three midnights before the midnight of `end`, ascending."""
        ends = [midnight(end) - timedelta(days=WINDOW_DAYS * k) for k in reversed(range(count))]
        windows = [((times < e) & (times >= e - timedelta(days=WINDOW_DAYS))).to_numpy() for e in ends]
        values = [matrix[mask][:, self._indices] for mask in windows]
        return [np.where(window == MISSING, np.nan, window) for window in values]


def cached_champions(file: Path) -> list[Champion] | None:
    """Champions of a cached shop, None if it is not cached."""
    if not file.is_file():
        return None
    champions = json.loads(file.read_text())
    return [
        Champion(
            trained_until=date.fromisoformat(entry["trained_until"]),
            reference=entry["reference"],
            f1_interval=tuple(entry["f1_interval"]),
            reference_buyers=entry["reference_buyers"],
            days=[DayRow(**day | {"day": date.fromisoformat(day["day"])}) for day in entry["days"]],
        )
        for entry in champions
    ]


def store_champions(file: Path, champions: Sequence[Champion]) -> None:
    """Cache a shop; visible only when complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(champion) for champion in champions], default=str))
    partial.replace(file)


def quiet_shop(cache: Path, seed: int, days: int, users: int = USERS) -> Champion:
    """One champion over `days` matured days of a shop without a change."""
    file = cache / f"quiet-{users}-{days}-{seed}.json"
    if (stored := cached_champions(file)) is None:
        stored = [simulate_champions(seed, users, 0, (None,), days)[None]]
        store_champions(file, stored)
    return stored[0]


def drifting_shops(cache: Path, seed: int, age: int, kinds: Sequence[str]) -> dict[str, Champion]:
    """Branches of one shop whose champion has an age of `age` days when the drift begins, by kind."""
    files = {kind: cache / f"{kind}-{age}-{DRIFTED_DAYS}-{seed}.json" for kind in kinds}
    missing = [None if kind == NO_DRIFT else kind for kind, file in files.items() if not file.is_file()]
    if missing:
        for drift, champion in simulate_champions(seed, USERS, age, missing, DRIFTED_DAYS).items():
            store_champions(files[drift or NO_DRIFT], [champion])
    return {kind: cast("list[Champion]", cached_champions(file))[0] for kind, file in files.items()}


def simulate_champions(
    seed: int, users: int, age: int, kinds: Sequence[str | None], days: int
) -> dict[str | None, Champion]:
    """The champion's days from at most `_SETTLING_DAYS` before the drift to `days` after it, by drift."""
    begin = TRAIN_DAYS + age
    config = SimulationConfig(users=users, days=begin + days + 1, seed=seed, start=date(2025, 1, 1))
    champions: dict[str | None, Champion] = {}
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(config, Path(folder))
        lake = shop.live_until(begin)
        fitted = fit_champion(lake, config.start + timedelta(days=TRAIN_DAYS))
        dates = settling_days(config, begin, days)
        for kind in kinds:
            drifted, events = shop.branch(kind, days + 1)
            scored = score_days(drifted, fitted, dates)
            champions[kind] = replace(fitted.champion, days=day_rows(scored, fitted, events))
    return champions


def settling_days(config: SimulationConfig, begin: int, days: int) -> list[date]:
    """Days from `_SETTLING_DAYS`, if there are so many, before index `begin` to `days` after it."""
    first = max(TRAIN_DAYS, begin - _SETTLING_DAYS)
    return [config.start + timedelta(days=index) for index in range(first, begin + days)]


def retrained_shop(cache: Path, seed: int, days: int, growth: float = 0.1) -> list[Champion]:
    """Champions of a quiet shop that is retrained whenever its events have grown by `growth`."""
    file = cache / f"retrained-{days}-{seed}.json"
    if (stored := cached_champions(file)) is None:
        stored = _retrain(seed, days, growth)
        store_champions(file, stored)
    return stored


def _retrain(seed: int, days: int, growth: float) -> list[Champion]:
    config = SimulationConfig(users=USERS, days=TRAIN_DAYS + days + 1, seed=seed, start=date(2025, 1, 1))
    end = config.start + timedelta(days=TRAIN_DAYS + days)
    champions: list[Champion] = []
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(config, Path(folder))
        lake = shop.live_until(TRAIN_DAYS + days + 1)
        until = config.start + timedelta(days=TRAIN_DAYS)
        while until < end:
            then = _next_training(shop.events, until, end, growth)
            fitted = fit_champion(lake, until)
            dates = [until + timedelta(days=n) for n in range((then - until).days)]
            rows = day_rows(score_days(lake, fitted, dates), fitted, shop.events)
            champions.append(replace(fitted.champion, days=rows))
            until = then
    return champions


def _next_training(events: dict[date, int], until: date, end: date, growth: float) -> date:
    """The first midnight at which the events since `until` reach the share `growth` of those before it."""
    before = sum(count for day, count in events.items() if day < until)
    day = until + timedelta(days=1)
    while day < end and sum(n for d, n in events.items() if until <= d < day) < growth * before:
        day += timedelta(days=1)
    return day
