"""The API's gauges show triggers, data age, live quality and undelivered alerts as MongoDB has them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bentos.exposition import exposition
from bentos.mongo_connection import MongoConnection
from bentos.monitoring_gauges import MonitoringGauges
from bentos.service_metrics import ServiceMetrics
from retail_core.ingest.request_events import store_events
from retail_core.settings import Settings
from retail_core.sources.presets import get_preset
from retail_core.store.mongo.connection import Store

pytestmark = pytest.mark.integration


def read_gauges(settings: Settings) -> dict[str, float]:
    """The samples of one reading, by name and labels."""

    async def text() -> str:
        connection, metrics = MongoConnection(settings), ServiceMetrics()
        gauges = MonitoringGauges(connection, interval_seconds=60)
        gauges.register(metrics)
        reading = asyncio.create_task(gauges.run())
        while "\nretail_alerts_undelivered " not in exposition(metrics.families(), "")[0].decode():
            await asyncio.sleep(0.01)
        reading.cancel()
        await connection.close()
        return exposition(metrics.families(), "")[0].decode()

    lines = [line.rsplit(" ", 1) for line in asyncio.run(text()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_what_is_not_known_has_no_series(store: Store) -> None:
    names = set(read_gauges(store.settings))
    assert "retail_alerts_undelivered" in names
    assert not any(name.startswith(("retail_trigger", "retail_data", "retail_live")) for name in names)


def test_gauges_show_the_newest_check_event_and_matured_cut_off(store: Store) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    hours_ago = [now - timedelta(hours=hours) for hours in (30, 6, 3, 2)]
    store_events(
        store,
        [{"user_id": "u1", "event_type": "view_item", "event_time": at.isoformat()} for at in hours_ago[1:3]],
        get_preset("canonical"),
    )
    for at, fired, value in [(hours_ago[0], True, 0.5), (hours_ago[3], False, 0.1)]:
        check = {"fired": fired, "value": value, "limit": 0.25, "at": at}
        store.trigger_checks.insert_many(
            [{"name": "drift", **check}, {"name": "age", **check, "value": None}]
        )
    for cutoff, purchased in [(hours_ago[0], True), (hours_ago[1], True), (hours_ago[1], False)]:
        identity = {"user_id": str(store.outcomes.count_documents({})), "as_of": cutoff, "model_version": "3"}
        store.outcomes.insert_one(identity | {"probability": 0.25, "purchased": purchased})
    store.alerts.insert_one({"state": "pending", "attempts": 2})
    for cutoff, warnings in (("2025-01-01", ["late"]), ("2025-01-02", ["late", "short"])):
        store.list_estimates.insert_one({"_id": f"{cutoff}:3", "model_version": "3", "warnings": warnings})
    read = read_gauges(store.settings)
    assert read['retail_list_warnings{version="3"}'] == 2
    assert read['retail_trigger_fired{trigger="drift"}'] == 0
    assert read['retail_trigger_value{trigger="drift"}'] == 0.1
    assert read['retail_trigger_limit{trigger="age"}'] == 0.25
    assert 'retail_trigger_value{trigger="age"}' not in read
    assert read["retail_trigger_check_age_seconds"] == pytest.approx(2 * 3600, abs=120)
    assert read["retail_data_age_seconds"] == pytest.approx(3 * 3600, abs=120)
    assert read['retail_live_users{version="3"}'] == 2
    assert read['retail_live_buyers_promised{version="3"}'] == 0.5
    assert read['retail_live_buyers_observed{version="3"}'] == 1
    assert read["retail_alerts_undelivered"] == 1
