"""Alerts are stored once per cause, delivered, repeated when delivery fails, and listed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from retail_core.alerts.alert import MAX_ATTEMPTS, Alert, AlertKind
from retail_core.alerts.raising import deliver_due, newest_alerts, raise_alert
from retail_core.cli.app import app
from retail_core.ingest import ingest
from retail_core.monitoring.trigger_alerts import raise_trigger_alerts
from retail_core.monitoring.trigger_check import Action, TriggerCheck
from retail_core.settings import Settings
from retail_core.sources.presets import get_preset
from retail_core.store.mongo.connection import Document, Store, open_store
from tests.alert_receiver import AlertReceiver, alert_receiver

pytestmark = pytest.mark.integration

AT = datetime(2025, 2, 1, 6, tzinfo=UTC)
LATE = Alert(AlertKind.DATA_LATE, "2025-01-31", "The newest event is 30 h old", "text", "look at the export")


@pytest.fixture
def receiver() -> Iterator[AlertReceiver]:
    with alert_receiver() as started:
        yield started


@pytest.fixture
def alerting(settings: Settings, receiver: AlertReceiver) -> Iterator[Store]:
    urls = SecretStr(f"{receiver.url('a')},{receiver.url('b')}")
    with open_store(settings.model_copy(update={"alert_urls": urls})) as store:
        yield store
        store.client.drop_database(settings.mongodb_database)


def only_alert(store: Store) -> Document:
    (alert,) = newest_alerts(store, 10)
    return alert


def test_a_cause_is_delivered_once_and_again_after_a_week(alerting: Store, receiver: AlertReceiver) -> None:
    for hours in (0, 1, 2):
        raise_alert(alerting, LATE, at=AT + timedelta(hours=hours))
    assert receiver.titles("a") == receiver.titles("b") == [LATE.title]
    assert "Next step: look at the export" in receiver.received["a"][0]["message"]
    alert = only_alert(alerting)
    assert (alert["count"], alert["state"], alert["delivered_at"]) == (3, "delivered", AT)
    raise_alert(alerting, LATE, at=AT + timedelta(days=8))
    assert receiver.titles("a") == [LATE.title] * 2


def test_a_trigger_is_an_alert_once_until_it_has_ended(alerting: Store, receiver: AlertReceiver) -> None:
    late = TriggerCheck("freshness", True, 30.0, 12.0, None, Action.ALERT, "the newest event is 30 h old")
    drift = TriggerCheck("drift", True, 0.4, 0.25, (0.3, 0.5), Action.RETRAIN, "2 features drifted")
    in_time = replace(late, fired=False, value=1.0)
    for hours, checks in enumerate([[late, drift], [late, drift], [in_time], [late]]):
        raise_trigger_alerts(alerting, checks, "3", AT + timedelta(hours=hours))
    data_late, drifted = "The event data are late", "Trigger drift fired for version 3"
    assert receiver.titles("a") == [data_late, drifted, data_late]
    assert "Value 0.4 (0.3 to 0.5), limit 0.25. 2 features" in receiver.received["a"][1]["message"]


def test_a_failed_delivery_is_repeated_after_the_back_off(alerting: Store, receiver: AlertReceiver) -> None:
    receiver.refuse_with = 500
    raise_alert(alerting, LATE, at=AT)
    alert = only_alert(alerting)
    assert (alert["state"], alert["attempts"]) == ("pending", 1)
    assert alert["error"] == "URL 1 (JSON) answered with status 500; URL 2 (JSON) answered with status 500"
    receiver.refuse_with = None
    assert deliver_due(alerting, at=AT + timedelta(seconds=30)) == 0
    assert deliver_due(alerting, at=AT + timedelta(minutes=2)) == 1
    assert receiver.titles("a") == receiver.titles("b") == [LATE.title]
    assert deliver_due(alerting, at=AT + timedelta(days=1)) == 0


def test_a_url_that_has_accepted_an_alert_does_not_get_it_again(
    settings: Settings, receiver: AlertReceiver
) -> None:
    urls = SecretStr(f"{receiver.url('a')},json://127.0.0.1:9/closed")
    with open_store(settings.model_copy(update={"alert_urls": urls})) as store:
        at = AT
        raise_alert(store, LATE, at=at)
        for _ in range(MAX_ATTEMPTS):
            at += timedelta(hours=7)
            deliver_due(store, at=at)
        alert = only_alert(store)
        store.client.drop_database(settings.mongodb_database)
    assert receiver.titles("a") == [LATE.title]
    assert (alert["state"], alert["attempts"]) == ("failed", MAX_ATTEMPTS)


def test_without_urls_alerts_are_stored_and_not_delivered_later(
    store: Store, receiver: AlertReceiver
) -> None:
    raise_alert(store, LATE, at=AT)
    assert only_alert(store)["state"] == "stored"
    with open_store(store.settings.model_copy(update={"alert_urls": SecretStr(receiver.url("a"))})) as later:
        assert deliver_due(later, at=AT + timedelta(days=1)) == 0


def test_an_unusual_share_of_refused_rows_is_an_alert(alerting: Store, tmp_path: Path) -> None:
    rows = "".join(f"u{i},view_item,2025-01-0{1 + i % 9}T10:00:00Z\n" for i in range(80))
    (tmp_path / "good.csv").write_text("user_id,event_type,event_time\n" + rows)
    (tmp_path / "bad.csv").write_text("user_id,event_type,event_time\n" + rows + "u1,view_item,soon\n" * 20)
    paths = [tmp_path / "good.csv", tmp_path / "bad.csv"]
    for _ in range(2):
        ingest(alerting, paths, get_preset("canonical"), at=AT)
    alert = only_alert(alerting)
    assert (alert["kind"], alert["state"], alert["count"]) == ("quarantine", "delivered", 1)
    assert alert["title"] == "20.0% of the rows of bad.csv were refused"


def test_the_command_line_lists_alerts_and_tests_the_delivery(
    alerting: Store, receiver: AlertReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_alert(alerting, LATE, at=AT)
    assert alerting.settings.mongodb_uri is not None
    assert alerting.settings.alert_urls is not None
    monkeypatch.setenv("RETAIL_MONGODB_URI", alerting.settings.mongodb_uri.get_secret_value())
    monkeypatch.setenv("RETAIL_MONGODB_DATABASE", alerting.settings.mongodb_database)
    monkeypatch.setenv("RETAIL_ALERT_URLS", alerting.settings.alert_urls.get_secret_value())
    shown = json.loads(CliRunner().invoke(app, ["alerts", "list", "--json"]).stdout)["alerts"]
    assert [(alert["title"], alert["state"]) for alert in shown] == [(LATE.title, "delivered")]
    assert CliRunner().invoke(app, ["alerts", "test", "--json"]).exit_code == 0
    assert receiver.titles("b") == [LATE.title, "Test of the alerts"]
    receiver.refuse_with = 401
    refused = CliRunner().invoke(app, ["alerts", "test"])
    assert refused.exit_code == 1
    assert "answered with status 401" in refused.stdout
    monkeypatch.delenv("RETAIL_ALERT_URLS")
    assert CliRunner().invoke(app, ["alerts", "test"]).exit_code == 1
