"""What deployed runs report about themselves: an alert when they fail, its end when they succeed.

A run that is started by hand reports nothing: whoever started it sees the error.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import prefect.runtime
from pymongo.errors import PyMongoError

from retail_core.alerts.raising import deliver_due, raise_alert, resolve_alert, send_unstored
from retail_core.alerts.run_alerts import RunEvent, run_alert, run_alert_ids
from retail_core.errors import RetailError
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store

log = logging.getLogger(__name__)


def report_failure(error: Exception) -> None:
    """Raise the alert of this run; without MongoDB it is sent, but not stored. Never raises."""
    if not _is_deployed():
        return
    alert = run_alert(RunEvent(_flow_name(), prefect.runtime.flow_run.name or "", "Failed", str(error)))
    try:
        settings = load_settings()
        try:
            with open_store(settings) as store:
                raise_alert(store, alert, at=datetime.now(UTC))
        except (RetailError, PyMongoError):
            send_unstored(settings, alert)
    except RetailError as unusable:
        log.warning("The alert about this run was not sent: %s", unusable)


def report_success() -> None:
    """Record that this flow works again, and repeat deliveries of alerts that failed. Never raises."""
    if not _is_deployed():
        return
    now = datetime.now(UTC)
    try:
        with open_store(load_settings()) as store:
            for alert_id in run_alert_ids(_flow_name()):
                resolve_alert(store, alert_id, at=now)
            deliver_due(store, at=now)
    except (RetailError, PyMongoError) as error:
        log.warning("Alerts were not updated: %s", error)


def _is_deployed() -> bool:
    return prefect.runtime.deployment.id is not None


def _flow_name() -> str:
    return str(prefect.runtime.flow_run.flow_name)
