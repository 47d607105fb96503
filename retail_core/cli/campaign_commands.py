"""`retail campaign`: plan whom to contact, record who was, and report what it changed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_rows, warn
from retail_core.settings import load_settings

campaign_app = typer.Typer(
    help="Campaigns: whom to contact, who was contacted, and what it changed.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="Name of the campaign.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(campaign_app, name="campaign")


@campaign_app.command("plan")
def plan(  # noqa: PLR0913, PLR0917 - one option each
    name: Name,
    out: Annotated[Path, typer.Option(help="CSV of the users to contact; the control group is not in it.")],
    as_of: Annotated[
        str | None, typer.Option(help="Cut-off of the probabilities, ISO 8601; default: the newest midnight.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Number of most probable buyers, control group included.")
    ] = None,
    recall: Annotated[float | None, typer.Option(help="Share of buyers to find, certified.")] = None,
    cost: Annotated[float | None, typer.Option(help="Of a contact; with --value it sets the size.")] = None,
    value: Annotated[float | None, typer.Option(help="Of a purchase; with --cost.")] = None,
    control: Annotated[float, typer.Option(min=0, max=0.9, help="Share held out at random.")] = 0.2,
    block_list: Annotated[Path | None, typer.Option(help="CSV with user_id: users who are left out.")] = None,
    needs_consent: Annotated[
        bool, typer.Option("--needs-consent", help="Only users who have agreed (`consent`).")
    ] = False,
    days_since_contact: Annotated[
        float, typer.Option(min=0, help="Leave out users whom a campaign contacted within so many days.")
    ] = 0,
    days_since_purchase: Annotated[
        float, typer.Option(min=0, help="Leave out users who bought within so many days.")
    ] = 0,
    json_output: JsonFlag = False,
) -> None:
    """Choose whom to contact and whom to hold out, and state which effect the campaign can show.

    Example: retail campaign plan spring --budget 1000 --out spring.csv
    """
    from retail_core.campaigns.contact_rules import ContactRules
    from retail_core.campaigns.plan import PlanRequest, plan_campaign
    from retail_core.campaigns.user_lists import read_users
    from retail_core.scoring.audience_sizing import Sizing
    from retail_core.workspace import open_workspace

    sizing = Sizing(budget, recall, cost if value is not None else None, value, control=control)
    blocked = frozenset(read_users(block_list)) if block_list else frozenset()
    rules = ContactRules(blocked, needs_consent, days_since_contact, days_since_purchase)
    planned_at = datetime.now(UTC)
    with open_workspace(load_settings()) as workspace:
        request = PlanRequest(name, workspace.list_cutoff(as_of), sizing, rules, planned_at, cost)
        report = plan_campaign(workspace, request, out, now=None if as_of else planned_at)
    warn(report.warnings)
    emit(asdict(report), json_output=json_output, title=f"Campaign {name}")


@campaign_app.command("consent")
def consent(
    file: Annotated[Path, typer.Argument(help="CSV: user_id, consent (yes or no), source, at.")],
    source: Annotated[str, typer.Option(help="Of rows that state none.")] = "file",
    json_output: JsonFlag = False,
) -> None:
    """Record who agrees to be contacted and who opted out; of a user the newest entry counts.

    Example: retail campaign consent consent.csv --source newsletter
    """
    from retail_core.campaigns.records import record_consent
    from retail_core.campaigns.user_lists import read_consent
    from retail_core.store.mongo.connection import open_store

    entries = read_consent(file, source=source, at=datetime.now(UTC))
    with open_store(load_settings()) as store:
        record_consent(store, entries)
    agreed = sum(entry["consent"] for entry in entries)
    result = {"entries": len(entries), "agreed": agreed, "opted_out": len(entries) - agreed}
    emit(result, json_output=json_output, title=f"Consent of {file}")


@campaign_app.command("sent")
def sent(
    name: Name,
    channel: Annotated[str, typer.Option(help="Such as email, push or sms.")] = "email",
    at: Annotated[
        str | None, typer.Option(help="When the users were contacted, ISO 8601; default: now.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="CSV with user_id of who was contacted; default: the whole list.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Record that users of a campaign were contacted.

    Example: retail campaign sent spring --at 2025-03-01T09:00:00Z
    """
    from retail_core.campaigns import records
    from retail_core.campaigns.user_lists import read_users
    from retail_core.store.mongo.connection import open_store
    from retail_core.store.mongo.ledger import shop_zone
    from retail_core.times import parse_instant

    with open_store(load_settings()) as store:
        records.find_campaign(store, name)
        instant = parse_instant(at, shop_zone(store)) if at else datetime.now(UTC)
        groups = {member["user_id"]: member["group"] for member in records.read_members(store, name)}
        planned = [user for user, group in groups.items() if group == records.CONTACT]
        users = read_users(file) if file else planned
        added = records.record_contacts(store, name, users, instant, channel)
    result = {
        "contacted": len(users),
        "newly_recorded": added,
        "control_contacted": sum(groups.get(user) == records.CONTROL for user in users),
        "not_planned": sum(user not in groups for user in users),
    }
    emit(result, json_output=json_output, title=f"Campaign {name}")


@campaign_app.command("report")
def report(
    name: Name,
    days: Annotated[float, typer.Option(min=0.01, max=90, help="Days in which a purchase counts.")] = 1,
    json_output: JsonFlag = False,
) -> None:
    """What contacting changed: added buyers and revenue with intervals, or that it is too small to tell.

    Example: retail campaign report spring --days 1
    """
    from retail_core.campaigns.report import campaign_report
    from retail_core.workspace import open_workspace

    with open_workspace(load_settings()) as workspace:
        result = campaign_report(
            workspace.store, name, window=timedelta(days=days), data_until=workspace.newest_event
        )
    emit(asdict(result), json_output=json_output, title=f"Campaign {name}")


@campaign_app.command("list")
def list_campaigns(json_output: JsonFlag = False) -> None:
    """All campaigns with their sizes and states, the newest plan first.

    Example: retail campaign list
    """
    from retail_core.campaigns import records
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        campaigns = records.list_campaigns(store)
    names = ("planned_at", "state", "sent_at", "contacted", "control", "expected_buyers")
    rows = [{"name": entry["_id"]} | {name: entry.get(name) for name in names} for entry in campaigns]
    if json_output:
        emit({"campaigns": rows}, json_output=True, title="")
    else:
        print_rows(rows, title=f"{len(rows):,} campaigns")
