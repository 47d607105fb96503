"""What became of the predictions: labels joined once their horizon has passed, and live metrics."""

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
from retail_core.monitoring.live_metrics import live_metrics
from retail_core.registry.versions import version_spec
from retail_core.schemas import Outcome, Pairs
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.ledger import shop_zone
from retail_core.store.mongo.predictions import read_outcomes, read_predictions, write_outcomes
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import Workspace

BATCH_ROWS = 200_000
"""Predictions in memory at once while labels are joined."""

LATE = timedelta(days=7)
"""For so long after it matured a window is labelled again, since events may arrive late."""


POPULATION = "matured predictions of every scored user"


@dataclass(frozen=True)
class OutcomeReport:
    """`matured` predictions have a known outcome, `new` of them since the last run.

    `metrics` are over all of them (None where there are none), `by_day` by day of the cut-off in the
    shop's zone; both name their population, period and base rate.
    """

    matured: int
    new: int
    metrics: dict[str, object] | None
    by_day: list[dict[str, object]]


@dataclass(frozen=True)
class _Window:
    as_of: datetime
    version: str
    rows: int
    run: str
    question: PredictionTask

    @property
    def known_from(self) -> datetime:
        return self.as_of + self.question.horizon


def mature(work: Workspace, *, as_of: datetime) -> OutcomeReport:
    """Store the outcome of every prediction whose horizon has passed at `as_of` (aware), and measure.

    A window counts as passed when the log is known at `as_of` up to its end (`features.span`) and no day in
    it is a gap in the data: before that the label is unknown, never negative. Windows are replaced
    whole, so that a second run, or one after a kill, ends the same.
    """
    store, instant = work.store, to_utc_ms(as_of)
    newest = work.lake.state().newest_event
    questions = Questions(store)
    new = 0
    if newest is not None:
        due = _due(work, questions, known_until(newest, instant, work.zone))
        new = sum(_label(work, batch) for batch in _batches(due))
    known = known_outcomes(store, questions, instant)
    return OutcomeReport(len(known), new, _overall(known), _by_day(known, work.zone))


def known_outcomes(
    store: Store, questions: Questions, as_of: datetime, model_version: str | None = None
) -> DataFrame[Outcome]:
    """Stored outcomes whose horizon has passed at `as_of`, of every version or of one."""
    outcomes = read_outcomes(store, model_version=model_version)
    horizons = {one: questions.of(one).horizon for one in outcomes["model_version"].unique()}
    ends = outcomes["as_of"] + pd.to_timedelta(outcomes["model_version"].map(horizons))
    return Outcome.validate(outcomes[ends <= pd.Timestamp(as_of)])


def _due(work: Workspace, questions: Questions, until: datetime) -> list[_Window]:
    """Windows that have passed at `until` and are not settled, by version and time."""
    store = work.store
    settled = {
        (one["as_of"], one["model_version"]): one.get("predictions_run")
        for one in store.prediction_windows.find({"collection": store.outcomes.name, "state": "whole"})
    }
    due: list[_Window] = []
    wanted = {"collection": store.predictions.name, "state": "whole", "as_of": {"$lt": until}}
    for one in store.prediction_windows.find(wanted).sort([("model_version", 1), ("as_of", 1)]):
        window = _window(one, questions.of(one["model_version"]))
        done = settled.get((window.as_of, window.version)) == window.run
        if window.known_from <= until and not (done and window.known_from + LATE <= until):
            due.append(window)
    gaps = {
        question: labelled_cutoffs(work.lake, question, until).gaps for question in {w.question for w in due}
    }
    return [
        window
        for window in due
        if not overlaps_gap(window.as_of, window.known_from, window.question.timezone, gaps[window.question])
    ]


class Questions:
    """The question each model version answers; that of the settings where its spec cannot be read."""

    def __init__(self, store: Store) -> None:
        self._settings = store.settings
        self._default = PredictionTask.from_settings(store.settings, shop_zone(store))
        self._known: dict[str, PredictionTask] = {}

    def of(self, version: str) -> PredictionTask:
        """The question of that version."""
        if version not in self._known:
            try:
                self._known[version] = version_spec(self._settings, version).feature_set.task
            except (DataError, IntegrityError):
                self._known[version] = self._default
        return self._known[version]


def _window(entry: Document, question: PredictionTask) -> _Window:
    return _Window(entry["as_of"], entry["model_version"], entry["rows"], entry["run"], question)


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Windows of one question together, up to `BATCH_ROWS` rows."""
    batch: list[_Window] = []
    for window in windows:
        full = sum(one.rows for one in batch) + window.rows > BATCH_ROWS
        if batch and (full or batch[0].question != window.question):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _label(work: Workspace, batch: Sequence[_Window]) -> int:
    """Join labels to the predictions of `batch` and store them; returns the rows that were not there."""
    for version in sorted({window.version for window in batch}):
        mine = [window for window in batch if window.version == version]
        parts = [read_predictions(work.store, as_of=one.as_of, model_version=version) for one in mine]
        frame = pd.concat(parts, ignore_index=True)
        pairs = cast("DataFrame[Pairs]", frame[["user_id", "as_of"]])
        frame["purchased"] = label_pairs(work.lake, mine[0].question, pairs).to_numpy(dtype=bool)
        write_outcomes(work.store, frame)
    return _remember(work.store, batch)


def _remember(store: Store, batch: Sequence[_Window]) -> int:
    new = 0
    for window in batch:
        key = {"collection": store.outcomes.name, "as_of": window.as_of, "model_version": window.version}
        before = store.prediction_windows.find_one_and_update(
            key, {"$set": {"predictions_run": window.run}}, projection={"predictions_run": 1}
        )
        new += window.rows if before is None or "predictions_run" not in before else 0
    return new


def _overall(known: DataFrame[Outcome]) -> dict[str, object] | None:
    if known.empty:
        return None
    first, last = known["as_of"].min(), known["as_of"].max()
    return {
        "population": POPULATION,
        "period": f"{iso(first.to_pydatetime())} to {iso(last.to_pydatetime())}",
        "model_versions": sorted(known["model_version"].unique().tolist()),
        **live_metrics(known).to_dict(),
    }


def _by_day(known: DataFrame[Outcome], zone_name: str) -> list[dict[str, object]]:
    days = known["as_of"].dt.tz_convert(zone_name).dt.date
    return [
        {"day": str(day), "population": POPULATION}
        | {"model_versions": sorted(rows["model_version"].unique().tolist())}
        | live_metrics(rows).to_dict()
        for day, rows in known.groupby(days, sort=True)
    ]
