"""Outcomes of predictions whose horizon has passed: label them, store the outcome, compute live metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError, IntegrityError
from retail_core.features.cutoffs.cutoff_plan import known_until, labelled_cutoffs
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import overlaps_gap
from retail_core.model.evaluation.expected_quality import estimate_quality
from retail_core.monitoring.live_metrics import live_metrics
from retail_core.registry.versions import version_spec
from retail_core.schemas import Outcome, Pairs
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ledger import shop_zone
from retail_core.store.mongo.list_estimates import store_observed
from retail_core.store.mongo.predictions import read_outcomes, read_predictions, write_outcomes
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import Workspace

BATCH_ROWS = 200_000
"""Predictions in memory at once while they are labelled."""

RELABEL_PERIOD = timedelta(days=7)
"""How long after it matured a window is labelled again, since events may arrive late."""

POPULATION = "matured predictions of every scored user"


@dataclass(frozen=True)
class OutcomeReport:
    """Matured predictions and their metrics.

    Attributes:
        matured: number of predictions with a known outcome.
        new: number of them that had none before this run.
        metrics: metrics over all of them, with population, period and base rate; None where there are none.
        by_day: the same by day of the cut-off in the shop's zone, beside what was expected of the lists.
    """

    matured: int
    new: int
    metrics: dict[str, object] | None
    by_day: list[dict[str, object]]


@dataclass(frozen=True)
class _PredictionWindow:
    """Predictions of one cut-off and model version; `run` identifies the scoring run that wrote them."""

    as_of: datetime
    version: str
    rows: int
    run: str
    task: PredictionTask

    @property
    def horizon_end(self) -> datetime:
        return self.as_of + self.task.horizon


class VersionTasks:
    """The prediction task of each model version; that of the settings where its spec cannot be read."""

    def __init__(self, store: Store) -> None:
        self._settings = store.settings
        self._default = PredictionTask.from_settings(store.settings, shop_zone(store))
        self._by_version: dict[str, PredictionTask] = {}

    def of(self, version: str) -> PredictionTask:
        """The prediction task of that version."""
        if version not in self._by_version:
            try:
                self._by_version[version] = version_spec(self._settings, version).feature_set.task
            except (DataError, IntegrityError):
                self._by_version[version] = self._default
        return self._by_version[version]


def mature_predictions(workspace: Workspace, *, as_of: datetime) -> OutcomeReport:
    """Store the outcome of every prediction whose horizon has passed at `as_of` (aware), and measure.

    A horizon has passed if the log is known at `as_of` up to its end (`known_until`) and none of its days is
    a gap in the log; before that the label is unknown, not negative. Windows are replaced as a whole, so
    that running it again, also after a kill, gives the same end state.
    """
    store, instant = workspace.store, to_utc_ms(as_of)
    newest = workspace.lake.state().newest_event
    tasks = VersionTasks(store)
    newly_labelled = 0
    if newest is not None:
        due = _windows_due(workspace, tasks, known_until(newest, instant, workspace.zone))
        newly_labelled = sum(_label_batch(workspace, batch) for batch in _batches(due))
    outcomes = matured_outcomes(store, tasks, instant)
    return OutcomeReport(
        len(outcomes), newly_labelled, _overall_metrics(outcomes), _daily_metrics(outcomes, workspace.zone)
    )


def matured_outcomes(
    store: Store, tasks: VersionTasks, as_of: datetime, model_version: str | None = None
) -> DataFrame[Outcome]:
    """Stored outcomes whose horizon has passed at `as_of`, of one version or of all."""
    outcomes = read_outcomes(store, model_version=model_version)
    horizons = {version: tasks.of(version).horizon for version in outcomes["model_version"].unique()}
    ends = outcomes["as_of"] + pd.to_timedelta(outcomes["model_version"].map(horizons))
    return Outcome.validate(outcomes[ends <= pd.Timestamp(as_of)])


def _windows_due(workspace: Workspace, tasks: VersionTasks, until: datetime) -> list[_PredictionWindow]:
    """Windows whose horizon has passed at `until` and that are to be labelled, by version and time.

    Not due are windows that were labelled since they were scored and are older than `RELABEL_PERIOD`, and
    windows that overlap a gap in the log.
    """
    store = workspace.store
    labelled_runs = {
        (entry["as_of"], entry["model_version"]): entry.get("predictions_run")
        for entry in store.prediction_windows.find({"collection": store.outcomes.name, "state": "whole"})
    }
    due: list[_PredictionWindow] = []
    scored = {"collection": store.predictions.name, "state": "whole", "as_of": {"$lt": until}}
    for entry in store.prediction_windows.find(scored).sort([("model_version", 1), ("as_of", 1)]):
        window = _prediction_window(entry, tasks.of(entry["model_version"]))
        labelled = labelled_runs.get((window.as_of, window.version)) == window.run
        final = labelled and window.horizon_end + RELABEL_PERIOD <= until
        if window.horizon_end <= until and not final:
            due.append(window)
    gaps = {
        task: labelled_cutoffs(workspace.lake, task, until).gaps for task in {window.task for window in due}
    }
    return [
        window
        for window in due
        if not overlaps_gap(window.as_of, window.horizon_end, window.task.timezone, gaps[window.task])
    ]


def _prediction_window(entry: Document, task: PredictionTask) -> _PredictionWindow:
    return _PredictionWindow(entry["as_of"], entry["model_version"], entry["rows"], entry["run"], task)


def _batches(windows: Sequence[_PredictionWindow]) -> Iterator[list[_PredictionWindow]]:
    """Successive windows of one prediction task, up to `BATCH_ROWS` rows per batch."""
    batch: list[_PredictionWindow] = []
    for window in windows:
        full = sum(entry.rows for entry in batch) + window.rows > BATCH_ROWS
        if batch and (full or batch[0].task != window.task):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _label_batch(workspace: Workspace, batch: Sequence[_PredictionWindow]) -> int:
    """Label the predictions of `batch` and store the outcomes; returns the number of rows that had none."""
    for version in sorted({window.version for window in batch}):
        windows = [window for window in batch if window.version == version]
        frames = [read_predictions(workspace.store, as_of=w.as_of, model_version=version) for w in windows]
        predictions = pd.concat(frames, ignore_index=True)
        pairs = cast("DataFrame[Pairs]", predictions[["user_id", "as_of"]])
        predictions["purchased"] = label_pairs(workspace.lake, windows[0].task, pairs).to_numpy(dtype=bool)
        write_outcomes(workspace.store, predictions)
        _store_observed(workspace.store, version, predictions)
    return _record_labelled(workspace.store, batch)


def _store_observed(store: Store, version: str, predictions: pd.DataFrame) -> None:
    """Store what was observed of each list beside its estimate."""
    for as_of, rows in predictions.groupby("as_of"):
        instant = cast("pd.Timestamp", as_of).to_pydatetime()
        store_observed(store, instant, version, live_metrics(rows).to_dict())


def _record_labelled(store: Store, batch: Sequence[_PredictionWindow]) -> int:
    """Record scoring run and horizon of the outcomes; returns the rows of windows without a run before."""
    newly_labelled = 0
    for window in batch:
        key = {"collection": store.outcomes.name, "as_of": window.as_of, "model_version": window.version}
        labelled = {"predictions_run": window.run, "horizon_hours": window.task.horizon_hours}
        before = store.prediction_windows.find_one_and_update(
            key, {"$set": labelled}, projection={"predictions_run": 1}
        )
        newly_labelled += window.rows if before is None or "predictions_run" not in before else 0
    return newly_labelled


def _overall_metrics(outcomes: DataFrame[Outcome]) -> dict[str, object] | None:
    if outcomes.empty:
        return None
    first, last = outcomes["as_of"].min(), outcomes["as_of"].max()
    return {
        "population": POPULATION,
        "period": f"{iso(first.to_pydatetime())} to {iso(last.to_pydatetime())}",
        "model_versions": sorted(outcomes["model_version"].unique().tolist()),
        **live_metrics(outcomes).to_dict(),
    }


def _daily_metrics(outcomes: DataFrame[Outcome], zone_name: str) -> list[dict[str, object]]:
    days = outcomes["as_of"].dt.tz_convert(zone_name).dt.date
    return [
        {"day": str(day), "population": POPULATION}
        | {"model_versions": sorted(rows["model_version"].unique().tolist())}
        | live_metrics(rows).to_dict()
        | expected_quality(rows)
        for day, rows in outcomes.groupby(days, sort=True)
    ]


def expected_quality(rows: pd.DataFrame) -> dict[str, float | int | None]:
    """What was expected of predictions before their outcomes, see `estimate_quality`."""
    estimate = estimate_quality(rows["probability"].to_numpy(float), rows["will_purchase"].to_numpy(bool))
    return {name: value for name, value in estimate.to_dict().items() if name != "n"}
