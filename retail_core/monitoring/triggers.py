"""Checking the triggers: read what each one needs, apply its rule, store the checks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from retail_core.errors import IntegrityError
from retail_core.model.spec import ModelSpec
from retail_core.monitoring import trigger_rules as rules
from retail_core.monitoring.calibration_test import CalibrationNull, estimate_overdispersion
from retail_core.monitoring.data_check import data_triggers
from retail_core.monitoring.drift_measurement import DriftMeasurement, measure_drift
from retail_core.monitoring.matured_days import MaturedDays, read_matured_days
from retail_core.monitoring.past_attempts import (
    PastAttempt,
    calibration_action,
    evidence_start,
    newest_training,
    past_attempts,
)
from retail_core.monitoring.trigger_alerts import raise_trigger_alerts
from retail_core.monitoring.trigger_check import Action, TriggerCheck
from retail_core.registry.champion import champion_spec
from retail_core.registry.versions import load_version
from retail_core.settings import Settings
from retail_core.store.mongo.shop_calendar import announced_days
from retail_core.times import last_midnight, to_utc_ms
from retail_core.workspace import Workspace

NO_CHAMPION = "there is no model in production"
CALIBRATION_DAYS = 28
"""The trigger `calibration` looks for a change within this many newest matured days."""


def check_triggers(
    workspace: Workspace, *, as_of: datetime, at: datetime, measurement: DriftMeasurement | None = None
) -> list[TriggerCheck]:
    """Check every trigger for the champion and store the checks.

    Without a champion only `schema` and `freshness`, which are about the data, are measured.

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
        attempts = past_attempts(workspace.store, champion)
        matured = read_matured_days(workspace.store, champion, as_of)
        measurement = measurement or _measure_drift(workspace, champion.version, as_of)
        checks = [
            _check_new_data(workspace, newest_training(attempts), as_of),
            _check_performance(workspace.settings, matured, attempts),
            _check_calibration(workspace.settings, matured, attempts),
            rules.check_drift(measurement, champion.version, workspace.settings.drift_limit),
            rules.check_age(as_of, newest_training(attempts), workspace.settings.max_model_age_days),
        ]
    checks += data_triggers(workspace, as_of)
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
        served = load_version(workspace.settings, version)
    except IntegrityError as error:
        return DriftMeasurement([], "", f"version {version} cannot be served: {error.message}")
    announced = announced_days(workspace.store)
    return measure_drift(workspace.lake.snapshot(), served, as_of, workspace.engine, announced)


def _checks_without_champion(settings: Settings) -> list[TriggerCheck]:
    limits: dict[str, tuple[float | None, Action]] = {
        rules.NEW_DATA: (settings.new_data_limit, Action.RETRAIN),
        rules.PERFORMANCE: (None, Action.RETRAIN),
        rules.CALIBRATION: (settings.calibration_limit, Action.RECALIBRATE),
        rules.DRIFT: (settings.drift_limit, Action.RETRAIN),
        rules.AGE: (settings.max_model_age_days, Action.RETRAIN),
    }
    return [
        TriggerCheck(name, False, None, limit, None, action, NO_CHAMPION)
        for name, (limit, action) in limits.items()
    ]


def _check_new_data(workspace: Workspace, last: PastAttempt, as_of: datetime) -> TriggerCheck:
    settings, midnight = workspace.settings, last_midnight(as_of, workspace.zone)
    events = workspace.lake.state(midnight).rows
    grown = events >= last.events * (1 + settings.new_data_limit)
    return rules.check_new_data(
        events,
        midnight,
        last,
        limit=settings.new_data_limit,
        pause=timedelta(days=settings.retrain_pause_days),
        same_data=grown and workspace.lake.hashes(midnight).data_hash == last.data_hash,
    )


def _check_performance(
    settings: Settings, matured: MaturedDays, attempts: Sequence[PastAttempt]
) -> TriggerCheck:
    references = {
        version: reference
        for version, spec in matured.specs.items()
        if (reference := rules.reference_performance(spec))
    }
    window = matured.since(evidence_start(attempts, rules.PERFORMANCE))
    return rules.check_performance(
        window.newest(settings.performance_window_days),
        references if next(iter(matured.specs)) in references else {},
        limit=settings.performance_limit,
        min_buyers=settings.min_matured_buyers,
    )


def _check_calibration(
    settings: Settings, matured: MaturedDays, attempts: Sequence[PastAttempt]
) -> TriggerCheck:
    """Overdispersion is a property of the shop: all matured days tell it, also those before the evidence."""
    window = matured.since(evidence_start(attempts, rules.CALIBRATION)).newest(CALIBRATION_DAYS)
    shop = matured.promised()
    champion = next(iter(matured.specs.values()))
    null = CalibrationNull(
        settings.calibration_limit,
        _reference_buyers(champion),
        float(estimate_overdispersion(shop)),
    )
    first = window.days[0].as_of if window.days else None
    return rules.check_calibration(window, null, len(matured.days), calibration_action(attempts, first))


def _reference_buyers(spec: ModelSpec) -> float:
    """Number of buyers that the calibrators were fitted on; where unknown, those of the test rows."""
    if recalibration := spec.training.get("recalibration"):
        return float(recalibration["periods"]["calibrate"]["positives"])
    return float(spec.training.get("eligible", spec.reference)["positives"])
