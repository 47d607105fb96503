"""Online answers and their outcomes: live metrics by day and policy, and matured days of shadows.

`prediction_log` holds every answer for 30 days, `shadow_answers` a sample with the probability of a shadow.
A day is read once its horizon has passed and again for some days, in which events may arrive late; then its
figures stay. Without users they are stored in `online_quality`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast

import pandas as pd
from pandera.typing.pandas import DataFrame
from pymongo.collection import Collection

from retail_core.errors import DataError, IntegrityError
from retail_core.features.cutoffs.cutoff_plan import known_until, labelled_cutoffs
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.local_days import local_midnight
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import overlaps_gap
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.live_metrics import live_metrics
from retail_core.monitoring.shadow_days import ShadowDay, paired_difference, unseen_from
from retail_core.registry.shadow_record import Shadow
from retail_core.registry.versions import version_spec
from retail_core.schemas import TIME_DTYPE, Pairs
from retail_core.store.mongo.connection import Document
from retail_core.times import EPOCH, to_utc_ms, zone
from retail_core.workspace import Workspace

POPULATION = "first online answer of each user, policy and day"

MAX_DAY_ANSWERS = 100_000
"""Answers of a day that are read; of more a random sample of about so many is taken."""

RELABEL_PERIOD = timedelta(days=7)
"""How long after it matured a day is computed again, since events may arrive late."""

_KNOWN_HISTORIES = ["stored", "stored+request"]
"""Answers from stored events; features of a request may be of nobody that the log knows."""

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class _MaturedDay:
    """A local day [start, end) whose horizon has passed; `final` where its events no longer change."""

    day: date
    start: datetime
    end: datetime
    final: bool


def mature_online_answers(workspace: Workspace, *, as_of: datetime) -> list[dict[str, Any]]:
    """Compute live metrics of the online answers that matured at `as_of` (aware), and return all of them.

    Of each user, policy and day the first answer counts. Each day is labelled on its own; days whose figures
    are final are not read again.

    Returns:
        One dictionary by day, policy and model version, oldest first: `day`, `policy`, `model_version`,
        `population`, and the fields of `LiveMetrics`.
    """
    store = workspace.store
    final = {entry["day"] for entry in store.online_quality.find({"final": True}, {"day": 1})}
    specs: dict[str, ModelSpec | None] = {}
    for matured in _matured_days(workspace, store.prediction_log, workspace.task, as_of):
        if matured.day.isoformat() in final:
            continue
        for entry in _day_quality(workspace, matured, specs):
            store.online_quality.replace_one({"_id": entry["_id"]}, entry, upsert=True)
    stored = store.online_quality.find({}, {"_id": 0, "final": 0}).sort([("day", 1), ("policy", 1)])
    return list(stored)


def online_days(
    workspace: Workspace, shadow: Shadow, champion: ModelSpec, until: datetime
) -> list[ShadowDay]:
    """The matured days on which online answers of the champion were scored by the shadow too.

    Of each user and day the first answer counts, and of two successive days one, so that no horizons of a
    user overlap. Days that the shadow's record has stay as they are.

    Args:
        workspace: the workspace.
        shadow: which versions.
        champion: specification of the champion.
        until: instant up to which horizons count, UTC.
    """
    task, stored = champion.feature_set.task, {entry["day"]: entry for entry in shadow.days}
    since = unseen_from(champion, version_spec(workspace.settings, shadow.version))
    days = [ShadowDay.from_document(entry) for entry in shadow.days]
    next_day = max((entry.day for entry in days), default=date.min) + _gap(task)
    for matured in _matured_days(workspace, workspace.store.shadow_answers, task, until):
        if matured.day < next_day or matured.start < since or matured.day.isoformat() in stored:
            continue
        rows = _shadow_rows(workspace, shadow, task, matured)
        if len(rows):
            days.append(ShadowDay(matured.day, paired_difference(rows), "online"))
            next_day = matured.day + _gap(task)
    return days


def _gap(task: PredictionTask) -> timedelta:
    """From a day to the next one none of whose instants lies within a horizon of the first."""
    return timedelta(days=1 - (-task.horizon_hours // 24))


def _matured_days(
    workspace: Workspace, log_entries: Collection[Document], task: PredictionTask, as_of: datetime
) -> Iterator[_MaturedDay]:
    """Local days with answers whose horizon has passed and touches no gap of the log, oldest first."""
    newest, instant = workspace.lake.state().newest_event, to_utc_ms(as_of)
    day = None if newest is None else _next_day(log_entries, task, None)
    if newest is None or day is None:
        return
    labels_until = known_until(newest, instant, task.timezone)
    gaps = labelled_cutoffs(workspace.lake, task, labels_until).gaps
    while day is not None:
        start, end = (local_midnight(edge, task.timezone) for edge in (day, day + _ONE_DAY))
        horizon_end = end + task.horizon
        if horizon_end > labels_until:
            return
        if not overlaps_gap(start, horizon_end, task.timezone, gaps):
            yield _MaturedDay(day, start, end, horizon_end + RELABEL_PERIOD <= labels_until)
        day = _next_day(log_entries, task, end)


def _next_day(log_entries: Collection[Document], task: PredictionTask, start: datetime | None) -> date | None:
    """The local day of the first answer from `start` on."""
    # Entries of earlier releases have a text instead of a time, which this query leaves out.
    first = log_entries.find_one({"as_of": {"$gte": start or EPOCH}}, {"as_of": 1}, sort=[("as_of", 1)])
    if first is None:
        return None
    as_of: datetime = first["as_of"]
    return as_of.astimezone(zone(task.timezone)).date()


def _day_quality(
    workspace: Workspace, matured: _MaturedDay, specs: dict[str, ModelSpec | None]
) -> Iterator[Document]:
    """The figures of one day by policy and version."""
    query = {"history": {"$in": _KNOWN_HISTORIES}}
    rows_of_day = _read(
        workspace.store.prediction_log, matured, query, ["policy", "model_version", "probability"]
    )
    first = rows_of_day.drop_duplicates(["user_id", "policy", "model_version"])
    for (policy, version), rows in first.groupby(["policy", "model_version"], sort=True):
        spec = _spec(workspace, str(version), specs)
        if spec is None or policy not in spec.thresholds:
            continue
        labelled = _labelled(workspace, workspace.task, rows)
        labelled["will_purchase"] = labelled["probability"] >= spec.thresholds[str(policy)]["f1"]
        yield {
            "_id": f"{matured.day.isoformat()}:{policy}:{version}",
            "day": matured.day.isoformat(),
            "policy": policy,
            "model_version": version,
            "population": POPULATION,
            **live_metrics(labelled).to_dict(),
            "final": matured.final,
        }


def _spec(workspace: Workspace, version: str, specs: dict[str, ModelSpec | None]) -> ModelSpec | None:
    """The specification of a version that predicts what the workspace's task asks; None otherwise."""
    if version not in specs:
        try:
            spec = version_spec(workspace.settings, version)
        except (DataError, IntegrityError):
            specs[version] = None
        else:
            same = not spec.feature_set.task.differing_labels(workspace.task)
            specs[version] = spec if same else None
    return specs[version]


def _shadow_rows(
    workspace: Workspace, shadow: Shadow, task: PredictionTask, matured: _MaturedDay
) -> pd.DataFrame:
    """The first answer of each user of the day, with its outcome and both probabilities."""
    query = {"shadow_version": shadow.version, "model_version": shadow.champion}
    rows_of_day = _read(workspace.store.shadow_answers, matured, query, ["probability", "probability_shadow"])
    return _labelled(workspace, task, rows_of_day.drop_duplicates("user_id"))


def _read(
    collection: Collection[Document], matured: _MaturedDay, query: Document, fields: list[str]
) -> pd.DataFrame:
    """Answers of one day in order of time: `user_id`, `as_of` and `fields`, all of them or a sample."""
    match = {"as_of": {"$gte": matured.start, "$lt": matured.end}, **query}
    total = collection.count_documents(match)
    stages: list[Document] = [{"$match": match}]
    if total > MAX_DAY_ANSWERS:
        stages.append({"$match": {"$sampleRate": MAX_DAY_ANSWERS / total}})
    names = ["user_id", "as_of", *fields]
    stages.append({"$project": {"_id": 0} | dict.fromkeys(names, 1)})
    frame = pd.DataFrame(list(collection.aggregate(stages)), columns=names)
    return frame.sort_values("as_of", kind="stable", ignore_index=True)


def _labelled(workspace: Workspace, task: PredictionTask, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `purchased`."""
    if rows.empty:
        return rows.assign(purchased=pd.Series(dtype=bool))
    labelled = rows.reset_index(drop=True).astype({"user_id": "str", "as_of": TIME_DTYPE})
    pairs = cast("DataFrame[Pairs]", labelled[["user_id", "as_of"]])
    return labelled.assign(purchased=label_pairs(workspace.lake, task, pairs).to_numpy(bool))
