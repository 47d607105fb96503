"""`retail alerts`: what was raised, and a test of the delivery."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_rows
from retail_core.errors import InputError
from retail_core.settings import load_settings
from retail_core.times import iso

alerts_app = typer.Typer(help="Alerts: what was raised, and a test of the delivery.", no_args_is_help=True)

_COLUMNS = ("last_at", "kind", "title", "count", "state", "next_step")


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(alerts_app, name="alerts")


@alerts_app.command("list")
def list_alerts(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of alerts.")] = 20,
    json_output: JsonFlag = False,
) -> None:
    """The newest alerts with the state of their delivery; those that wait for delivery are sent first.

    Example: retail alerts list
    """
    from retail_core.alerts.raising import deliver_due, newest_alerts
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        deliver_due(store, at=datetime.now(UTC))
        alerts = newest_alerts(store, limit)
    internal = {"_id", "accepted_by"}
    rows = [{name: value for name, value in alert.items() if name not in internal} for alert in alerts]
    if json_output:
        emit({"alerts": rows}, json_output=True, title="")
        return
    print_rows([{name: row[name] for name in _COLUMNS} for row in rows], title="Alerts, the newest first")


@alerts_app.command("test")
def send_test_message(json_output: JsonFlag = False) -> None:
    """Send a test message to every URL of RETAIL_ALERT_URLS; exit code 1 if one does not accept it.

    Example: retail alerts test
    """
    from retail_core.alerts.delivery import Message, deliver, parse_targets

    settings = load_settings()
    targets = parse_targets(settings.alert_urls)
    if not targets:
        raise InputError(
            "RETAIL_ALERT_URLS is not set, so alerts are only stored.",
            remedy="set it to one or more Apprise URLs, such as "
            "mailtos://user:password@host?to=ana@example.com or json://host/path.",
        )
    message = Message(
        "Test of the alerts",
        f"Sent by `retail alerts test` at {iso(datetime.now(UTC))} for the database "
        f"{settings.mongodb_database}.\n\nNext step: nothing.",
    )
    deliveries = deliver([message], targets, seconds=15)
    rows = [
        {"url": delivery.target.position, "delivered": delivery.error is None, "error": delivery.error}
        for delivery in deliveries
    ]
    if json_output:
        emit({"deliveries": rows}, json_output=True, title="")
    else:
        print_rows(rows, title="Test message")
    if any(delivery.error for delivery in deliveries):
        typer.echo("error: a URL did not accept the message.", err=True)
        raise typer.Exit(1)
