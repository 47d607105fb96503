"""Report on the model in production: triggers, drift and live metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from retail_core.monitoring.drift_measurement import measure_drift
from retail_core.monitoring.drift_statistics import FeatureDrift
from retail_core.monitoring.matured_predictions import mature_predictions
from retail_core.monitoring.online_answers import mature_online_answers
from retail_core.monitoring.shadow_verdicts import ShadowReport, judge_shadows
from retail_core.monitoring.trigger_check import INSUFFICIENT_DATA, TriggerCheck
from retail_core.monitoring.triggers import check_triggers
from retail_core.registry.champion import load_champion
from retail_core.store.mongo.list_estimates import read_estimates
from retail_core.store.mongo.shop_calendar import announced_days
from retail_core.workspace import Workspace

OK = "ok"
REPORTED_LISTS = 14
"""Newest lists of the report."""


@dataclass(frozen=True)
class MonitorReport:
    """State of the model in production at a cut-off.

    Attributes:
        model_version: the version in production.
        status: names of the triggers that fired; else `insufficient data` where one could not be measured;
            else `ok`.
        triggers: every trigger with its evidence, as stored.
        drift: every feature and the score; drifted ones first, then by PSI relative to the limit.
        population: description of the rows that `drift` compares, or why there are none.
        live: metrics of the matured predictions by day, beside what was expected.
        lists: expected quality of the newest lists, with what was observed once they matured.
        online: live metrics of online answers by day, policy and version.
        shadows: each shadow that was judged; it may have changed production.
    """

    model_version: str
    status: str
    triggers: list[TriggerCheck]
    drift: list[FeatureDrift]
    population: str
    live: list[dict[str, object]]
    lists: list[dict[str, Any]]
    online: list[dict[str, Any]]
    shadows: list[ShadowReport]


def monitor(workspace: Workspace, *, as_of: datetime, at: datetime) -> MonitorReport:
    """Label the predictions that matured at `as_of`, check and store the triggers, judge the shadows, report.

    Args:
        workspace: the workspace.
        as_of: events and outcomes up to this instant count, aware.
        at: time of the check, aware; stored with it.

    Raises:
        DataError: no model is in production.
    """
    served = load_champion(workspace.store)
    announced = announced_days(workspace.store)
    measurement = measure_drift(workspace.lake.snapshot(), served, as_of, workspace.engine, announced)
    outcomes = mature_predictions(workspace, as_of=as_of)
    checks = check_triggers(workspace, as_of=as_of, at=at, measurement=measurement)
    return MonitorReport(
        model_version=served.spec.version,
        status=overall_status(checks),
        triggers=checks,
        drift=measurement.drifts,
        population=measurement.population or f"none: {measurement.unavailable}",
        live=outcomes.by_day,
        lists=read_estimates(workspace.store, served.spec.version, newest=REPORTED_LISTS),
        online=mature_online_answers(workspace, as_of=as_of),
        # Last, since a verdict may replace the version that the rest is about.
        shadows=judge_shadows(workspace, as_of=as_of),
    )


def overall_status(checks: Sequence[TriggerCheck]) -> str:
    """Names of the triggers that fired, else `insufficient data` or `ok`."""
    fired = ", ".join(check.name for check in checks if check.fired)
    return fired or (INSUFFICIENT_DATA if any(check.value is None for check in checks) else OK)
