"""Triggers of retraining: named checks, each with its value, its limit and the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from retail_core.errors import IntegrityError
from retail_core.model.served_model import ModelSpec
from retail_core.monitoring.drift_measurement import DriftMeasurement, measure_drift
from retail_core.monitoring.drift_statistics import SCORE, drifted_importance
from retail_core.monitoring.live_metrics import Confusion, reweighted_f1
from retail_core.monitoring.matured_predictions import VersionTasks, matured_outcomes
from retail_core.monitoring.trigger_alerts import raise_trigger_alerts
from retail_core.monitoring.trigger_check import Action, TriggerCheck, insufficient
from retail_core.registry.champion import champion_spec
from retail_core.registry.versions import load_version
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store
from retail_core.times import parse_instant, to_utc_ms
from retail_core.workspace import Workspace

NEW_DATA = "new_data"
PERFORMANCE = "performance"
DRIFT = "drift"
NO_CHAMPION = "there is no model in production"
_NAMED_FEATURES = 5
"""Drifted features that the evidence names."""


@dataclass(frozen=True)
class ReferencePerformance:
    """Performance of a version on its test rows: F1 at its best-F1 threshold, and their base rate."""

    version: str
    f1: float
    base_rate: float


def check_new_data(events_now: int, events_then: int, version: str, limit: float) -> TriggerCheck:
    """Whether the number of events has grown by a share of at least `limit` since `version` was trained.

    Args:
        events_now: number of events before the cut-off of the check.
        events_then: number of events before the cut-off of the training.
        version: the champion.
        limit: relative growth.
    """
    growth = (events_now - events_then) / events_then if events_then else None
    counts = f"{events_now:,} events now, {events_then:,} in the data of version {version}"
    if growth is None:
        return insufficient(NEW_DATA, limit, Action.RETRAIN, counts)
    evidence = f"{counts}: {growth:+.1%}"
    return TriggerCheck(NEW_DATA, growth >= limit, growth, limit, None, Action.RETRAIN, evidence)


def check_performance(
    live: Confusion, reference: ReferencePerformance, *, limit: float, min_buyers: int
) -> TriggerCheck:
    """Whether the live F1, at the reference base rate, is at least a share of `limit` below the reference.

    With fewer than `min_buyers` matured buyers the value is None.
    """
    lowest = (1 - limit) * reference.f1
    population = (
        f"version {reference.version}: {live.rows:,} matured predictions later than its training data, "
        f"{live.buyers:,} buyers"
    )
    if live.buyers < min_buyers:
        missing = f"{population}, at least {min_buyers} buyers needed"
        return insufficient(PERFORMANCE, lowest, Action.RETRAIN, missing)
    value = reweighted_f1(live, reference.base_rate)
    evidence = (
        f"{population}, base rate {live.base_rate:.2%}; F1 {live.f1:.3f}, at the reference base rate of "
        f"{reference.base_rate:.2%} {value:.3f}; reference F1 {reference.f1:.3f}"
    )
    return TriggerCheck(PERFORMANCE, value <= lowest, value, lowest, None, Action.RETRAIN, evidence)


def check_drift(measurement: DriftMeasurement, version: str, limit: float) -> TriggerCheck:
    """Whether at least a share of `limit` of the model's importance belongs to drifted features."""
    if measurement.unavailable:
        return insufficient(DRIFT, limit, Action.RETRAIN, measurement.unavailable)
    value = drifted_importance(measurement.drifts)
    features = [drift for drift in measurement.drifts if drift.name != SCORE]
    drifted = [drift for drift in features if drift.drifted]
    evidence = (
        f"version {version}, {measurement.population}: {len(drifted)} of {len(features)} features drifted"
    )
    if drifted:
        evidence += ": " + "; ".join(
            f"{drift.name} PSI {drift.psi:.2f} (limit {drift.limit:.2f})"
            for drift in drifted[:_NAMED_FEATURES]
        )
    return TriggerCheck(DRIFT, value >= limit, value, limit, None, Action.RETRAIN, evidence)


def check_triggers(
    workspace: Workspace, *, as_of: datetime, at: datetime, measurement: DriftMeasurement | None = None
) -> list[TriggerCheck]:
    """Check every trigger for the champion and store the checks.

    Without a champion no trigger fires, and the evidence states it.

    Args:
        workspace: the workspace.
        as_of: events and outcomes up to this instant count, aware.
        at: time of the check, aware; stored with it.
        measurement: the champion's drift at `as_of`; measured here by default.
    """
    champion = champion_spec(workspace.store)
    if champion is None:
        checks = _checks_without_champion(workspace.settings)
    else:
        measurement = measurement or _measure_drift(workspace, champion.version, as_of)
        checks = [
            _check_new_data(workspace, champion, as_of),
            _check_performance(workspace, champion, as_of),
            check_drift(measurement, champion.version, workspace.settings.drift_limit),
        ]
    version = champion.version if champion else None
    workspace.store.trigger_checks.insert_many(
        {**check.to_dict(), "as_of": to_utc_ms(as_of), "at": to_utc_ms(at), "model_version": version}
        for check in checks
    )
    raise_trigger_alerts(workspace.store, checks, version, at)
    return checks


def _measure_drift(workspace: Workspace, version: str, as_of: datetime) -> DriftMeasurement:
    """Drift of that version; unavailable if it is damaged, which must not prevent a retraining."""
    try:
        return measure_drift(
            workspace.lake.snapshot(), load_version(workspace.settings, version), as_of, workspace.engine
        )
    except IntegrityError as error:
        return DriftMeasurement([], "", f"version {version} cannot be served: {error.message}")


def _checks_without_champion(settings: Settings) -> list[TriggerCheck]:
    limits = {NEW_DATA: settings.new_data_limit, PERFORMANCE: None, DRIFT: settings.drift_limit}
    return [
        TriggerCheck(name, False, None, limit, None, Action.RETRAIN, NO_CHAMPION)
        for name, limit in limits.items()
    ]


def _check_new_data(workspace: Workspace, champion: ModelSpec, as_of: datetime) -> TriggerCheck:
    events_now, events_then = workspace.lake.state(as_of).rows, int(champion.data["events"])
    return check_new_data(events_now, events_then, champion.version, workspace.settings.new_data_limit)


def _check_performance(workspace: Workspace, champion: ModelSpec, as_of: datetime) -> TriggerCheck:
    reference = champion.reference
    return check_performance(
        live_confusion(workspace.store, champion, as_of),
        ReferencePerformance(champion.version, reference["f1"], reference["base_rate"]),
        limit=workspace.settings.performance_limit,
        min_buyers=workspace.settings.min_matured_buyers,
    )


def live_confusion(store: Store, champion: ModelSpec, as_of: datetime) -> Confusion:
    """Confusion matrix of the champion's matured predictions at its best-F1 threshold.

    Only predictions of its primary policy whose horizon reaches beyond its training data count: on labels
    that it was trained on, a model looks better than it is.
    """
    policy = champion.primary
    last_trained = parse_instant(champion.data["as_of"]) - champion.feature_set.task.horizon
    outcomes = matured_outcomes(store, VersionTasks(store), as_of, champion.version)
    unseen = outcomes[(outcomes["policy"] == policy) & (outcomes["as_of"] > pd.Timestamp(last_trained))]
    expected = unseen["probability"].to_numpy(dtype=float) >= champion.thresholds[policy]["f1"]
    return Confusion.of(unseen["purchased"].to_numpy(dtype=bool), expected)
