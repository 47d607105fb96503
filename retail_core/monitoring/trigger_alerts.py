"""Alerts about triggers that have fired, and about data that are late."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from retail_core.alerts.alert import Alert, AlertKind
from retail_core.alerts.raising import deliver_due, resolve_alert, store_alert
from retail_core.monitoring.trigger_check import Action, TriggerCheck
from retail_core.store.mongo.connection import Store

FRESHNESS = "freshness"
"""Trigger whose alert is of the kind `data_late`."""

_NEXT_STEPS = {
    Action.RETRAIN: "`retail retrain` trains a challenger, as the deployment `retrain` does every day; "
    "`retail monitor` shows the evidence.",
    Action.RECALIBRATE: "`retail retrain` recalibrates, as the deployment `retrain` does every day; "
    "`retail monitor` shows the evidence.",
    Action.ALERT: "find the cause: `retail data check` compares the newest days with the usual ones.",
}
_LATE_STEP = (
    "check the export or the transfer of the log, then ingest what is missing. Lists that are made until "
    "then lack the newest visits."
)


def raise_trigger_alerts(
    store: Store, checks: Sequence[TriggerCheck], version: str | None, at: datetime
) -> None:
    """Raise an alert for each trigger that fired; one that no longer fires may be raised anew.

    Args:
        store: the open store.
        checks: of all triggers at one cut-off.
        version: the champion.
        at: time of the checks, aware.
    """
    for check in checks:
        alert = trigger_alert(check, version)
        if check.fired:
            store_alert(store, alert, at=at)
        elif check.value is not None:
            resolve_alert(store, alert.id, at=at)
    deliver_due(store, at=at)


def trigger_alert(check: TriggerCheck, version: str | None) -> Alert:
    """The alert of a trigger; the cause is the trigger of this champion, of late data the data alone."""
    if check.name == FRESHNESS:
        return Alert(AlertKind.DATA_LATE, FRESHNESS, "The event data are late", check.evidence, _LATE_STEP)
    model = f" for version {version}" if version else ""
    return Alert(
        AlertKind.TRIGGER_FIRED,
        f"{check.name}:{version or '-'}",
        f"Trigger {check.name} fired{model}",
        f"{_figures(check)}{check.evidence}.",
        _NEXT_STEPS[check.action],
    )


def _figures(check: TriggerCheck) -> str:
    if check.value is None or check.limit is None:
        return ""
    interval = ""
    if check.interval is not None:
        interval = f" ({check.interval[0]:.3g} to {check.interval[1]:.3g})"
    return f"Value {check.value:.3g}{interval}, limit {check.limit:.3g}. "
