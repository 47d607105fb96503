"""Alerts that the service raises for Prefect's automations, and retries of deliveries that failed.

The automations post to the service because it runs where a worker has stopped: a run that no worker starts
cannot report itself.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from bentos.messages import RunReport
from bentos.mongo_connection import Document, MongoConnection
from bentos.problems import Problem
from retail_core.alerts.alert import Alert, DeliveryState
from retail_core.alerts.raising import deliver_due, raise_alert
from retail_core.alerts.run_alerts import RunEvent, run_alert
from retail_core.errors import DependencyError, RetailError
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store

RETRY_SECONDS = 60.0
"""Interval at which the service looks for alerts whose next delivery is due."""

SELECT_SECONDS = 2.0
TIMEOUT_SECONDS = 2.0
MAX_PENDING = 16

log = logging.getLogger("bentoml.serve")


class AlertSender:
    """Raises alerts in a thread of its own, so that neither MongoDB nor a chat service delays a request."""

    def __init__(self, settings: Settings, connection: MongoConnection) -> None:
        self._settings = settings
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, "alerts")
        self._pending = 0

    async def report_run(self, report: RunReport) -> None:
        """Store and deliver the alert of a run.

        Raises:
            Problem: 503 where MongoDB does not answer or too many alerts wait.
        """
        if self._pending >= MAX_PENDING:
            raise _unavailable("too many alerts wait")
        alert = run_alert(RunEvent(report.flow, report.run, report.state, report.message))
        self._pending += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._raise, alert)
        except (PyMongoError, DependencyError) as error:
            raise _unavailable(type(error).__name__) from error
        finally:
            self._pending -= 1

    async def run(self) -> None:
        """Repeat failed deliveries until cancelled."""
        while self._settings.alert_urls is not None:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                if await self._connection.run("alerts", _count_due, TIMEOUT_SECONDS):
                    await asyncio.get_running_loop().run_in_executor(self._thread, self._deliver)
            except (PyMongoError, RetailError) as error:
                log.warning("Alerts were not delivered: %s", type(error).__name__)

    def close(self) -> None:
        """End after the delivery in progress."""
        self._thread.shutdown(cancel_futures=True)

    def _raise(self, alert: Alert) -> None:
        with open_store(self._settings, select_seconds=SELECT_SECONDS) as store:
            raise_alert(store, alert, at=datetime.now(UTC))

    def _deliver(self) -> None:
        with open_store(self._settings, select_seconds=SELECT_SECONDS) as store:
            deliver_due(store, at=datetime.now(UTC))


async def _count_due(alerts: AsyncCollection[Document]) -> int:
    due = {"state": str(DeliveryState.PENDING), "next_attempt_at": {"$lte": datetime.now(UTC)}}
    return await alerts.count_documents(due, limit=1)


def _unavailable(cause: str) -> Problem:
    remedy = "send the report again in a moment; an alert is raised once."
    return Problem(503, "dependency-away", f"The alert was not raised: {cause}.", retry=True, remedy=remedy)
