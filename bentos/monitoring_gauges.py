"""Gauges of the monitoring: triggers, age of the data, lists, live quality and undelivered alerts.

They are read from MongoDB in the background, at the interval at which promotions are followed. A value that
is not known, or was not read for three intervals because MongoDB does not answer, has no series.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bson.datetime_ms import DatetimeMS
from pymongo.asynchronous.collection import AsyncCollection

from bentos.mongo_connection import Document, MongoConnection
from bentos.service_metrics import LabelValues, ServiceMetrics
from retail_core.errors import RetailError

TIMEOUT_SECONDS = 5.0
MIN_INTERVAL_SECONDS = 1.0
_MAX_TRIGGERS = 50
_UNREAD_INTERVALS = 3

Series = Mapping[LabelValues, float]
log = logging.getLogger("bentoml.serve")


@dataclass
class MonitoringGauges:
    """The values that were read last.

    Attributes:
        connection: of background reads.
        interval_seconds: between two readings; 0: never.
    """

    connection: MongoConnection
    interval_seconds: float
    _checks: list[Mapping[str, Any]] = field(default_factory=list)
    _newest_event_ms: int | None = None
    _undelivered: int = 0
    _list_warnings: Mapping[str, Any] | None = None
    _live: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _live_window: tuple[int, int] | None = None
    _read_at: float | None = None

    def register(self, metrics: ServiceMetrics) -> None:
        """Expose the gauges."""
        gauge = metrics.register_series
        gauge("retail_trigger_fired", "1 if the trigger fired when last checked", "trigger", self._fired)
        gauge("retail_trigger_value", "What the trigger measured", "trigger", lambda: self._of("value"))
        gauge("retail_trigger_limit", "Its limit", "trigger", lambda: self._of("limit"))
        gauge("retail_trigger_check_age_seconds", "Time since the last check", "", self._check_age)
        gauge("retail_data_age_seconds", "Age of the newest stored event", "", self._data_age)
        gauge("retail_alerts_undelivered", "Alerts whose delivery failed so far", "", self._alerts)
        gauge(
            "retail_list_warnings", "Warnings of the newest list: late log, few users", "version", self._lists
        )
        for name, text in (
            ("users", "Scored users of the newest matured cut-off"),
            ("buyers_promised", "Sum of their probabilities"),
            ("buyers_observed", "Buyers among them"),
        ):
            gauge(f"retail_live_{name}", text, "version", partial(self._live_of, name))

    async def run(self) -> None:
        """Read at intervals until cancelled."""
        while self.interval_seconds:
            try:
                await self._read()
                self._read_at = time.monotonic()
            except RetailError:
                pass  # the connection has logged it
            except Exception:
                # A bug here must not end the reading of gauges.
                log.exception("Gauges of the monitoring were not read")
            await asyncio.sleep(max(self.interval_seconds, MIN_INTERVAL_SECONDS))

    async def _read(self) -> None:
        run = self.connection.run
        self._checks = await run("trigger_checks", _newest_checks, TIMEOUT_SECONDS)
        self._newest_event_ms = await run("ingest_ledger", _newest_event, TIMEOUT_SECONDS)
        self._undelivered = await run("alerts", _undelivered, TIMEOUT_SECONDS)
        self._list_warnings = await run("list_estimates", _newest_list, TIMEOUT_SECONDS)
        window = await run("outcomes", _newest_window, TIMEOUT_SECONDS)
        if window != self._live_window:
            self._live = {}
            if window is not None:
                cutoff_ms = window[0]
                self._live = await run("outcomes", lambda c: _live_quality(c, cutoff_ms), TIMEOUT_SECONDS)
            self._live_window = window

    @property
    def _is_current(self) -> bool:
        limit = _UNREAD_INTERVALS * max(self.interval_seconds, MIN_INTERVAL_SECONDS) + TIMEOUT_SECONDS
        return self._read_at is not None and time.monotonic() - self._read_at < limit

    def _of(self, name: str) -> Series:
        return {
            (str(check["name"]),): float(check[name])
            for check in self._checks
            if self._is_current and check.get(name) is not None
        }

    def _fired(self) -> Series:
        return self._of("fired")

    def _check_age(self) -> Series:
        return self._age(int(self._checks[0]["at"]) if self._checks else None)

    def _data_age(self) -> Series:
        return self._age(self._newest_event_ms)

    def _age(self, instant_ms: int | None) -> Series:
        return {(): time.time() - instant_ms / 1000} if self._is_current and instant_ms is not None else {}

    def _alerts(self) -> Series:
        return {(): float(self._undelivered)} if self._is_current else {}

    def _lists(self) -> Series:
        if not self._is_current or self._list_warnings is None:
            return {}
        document = self._list_warnings
        return {(str(document["model_version"]),): float(len(document.get("warnings", ())))}

    def _live_of(self, name: str) -> Series:
        if not self._is_current:
            return {}
        return {(version,): float(values[name]) for version, values in self._live.items()}


async def _newest_checks(checks: AsyncCollection[Document]) -> list[Mapping[str, Any]]:
    """The trigger checks that were made together last."""
    newest: list[Any] = await checks.find(
        {}, {"name": 1, "fired": 1, "value": 1, "limit": 1, "at": 1}, sort=[("_id", -1)], limit=_MAX_TRIGGERS
    ).to_list()
    return [check for check in newest if check["at"] == newest[0]["at"]]


async def _newest_event(ledger: AsyncCollection[Document]) -> int | None:
    """Time of the newest stored event that is not in the future, ms since 1970; None where it is unknown."""
    window: Any = await ledger.find_one(
        {"newest_event": {"$exists": True}, "$expr": {"$lte": ["$newest_event", "$$NOW"]}},
        {"newest_event": 1},
        sort=[("newest_event", -1)],
    )
    return int(window["newest_event"]) if window else None


async def _undelivered(alerts: AsyncCollection[Document]) -> int:
    return await alerts.count_documents({"state": {"$in": ["pending", "failed"]}, "attempts": {"$gte": 1}})


async def _newest_list(estimates: AsyncCollection[Document]) -> Mapping[str, Any] | None:
    """Version and warnings of the list of the newest cut-off."""
    newest: Any = await estimates.find_one({}, {"model_version": 1, "warnings": 1}, sort=[("_id", -1)])
    return None if newest is None else dict(newest)


async def _newest_window(outcomes: AsyncCollection[Document]) -> tuple[int, int] | None:
    """The newest cut-off with outcomes, ms since 1970, and its number of rows."""
    newest: Any = await outcomes.find_one({}, {"as_of": 1}, sort=[("as_of", -1)])
    if newest is None:
        return None
    cutoff = newest["as_of"]
    return int(cutoff), await outcomes.count_documents({"as_of": DatetimeMS(int(cutoff))})


async def _live_quality(outcomes: AsyncCollection[Document], cutoff_ms: int) -> dict[str, Mapping[str, Any]]:
    """Users, promised and observed buyers of a cut-off, by model version."""
    stages: list[dict[str, Any]] = [
        {"$match": {"as_of": DatetimeMS(cutoff_ms)}},
        {
            "$group": {
                "_id": "$model_version",
                "users": {"$sum": 1},
                "buyers_promised": {"$sum": "$probability"},
                "buyers_observed": {"$sum": {"$cond": ["$purchased", 1, 0]}},
            }
        },
    ]
    groups: list[Any] = await (await outcomes.aggregate(stages)).to_list()
    return {str(group["_id"]): group for group in groups}
