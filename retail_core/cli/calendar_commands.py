"""`retail calendar`: announced promotions and closed days."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_rows
from retail_core.settings import load_settings

calendar_app = typer.Typer(help="Announced promotions and closed days of the shop.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(calendar_app, name="calendar")


@calendar_app.command("set")
def set_calendar(
    file: Annotated[
        Path, typer.Argument(help="CSV: date (or first, last), kind (promotion or closed), note, announced.")
    ],
    json_output: JsonFlag = False,
) -> None:
    """Replace the calendar by that of a CSV file. A file with a row that is refused changes nothing.

    Example: retail calendar set calendar.csv
    """
    from retail_core.sources.calendar_file import read_calendar
    from retail_core.store.mongo.connection import open_store
    from retail_core.store.mongo.ledger import shop_zone
    from retail_core.store.mongo.shop_calendar import replace_calendar

    at = datetime.now(UTC)
    with open_store(load_settings()) as store:
        report = replace_calendar(store, read_calendar(file, shop_zone(store), at), at)
    emit(asdict(report), json_output=json_output, title=f"Calendar of {file}")


@calendar_app.command("show")
def show_calendar(
    known_at: Annotated[
        str | None, typer.Option(help="ISO 8601: as it was known at this time; default: as it is now.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show the announced days.

    Example: retail calendar show --known-at 2025-11-01
    """
    from retail_core.store.mongo.connection import open_store
    from retail_core.store.mongo.ledger import shop_zone
    from retail_core.store.mongo.shop_calendar import known_days, read_days
    from retail_core.times import parse_instant

    with open_store(load_settings()) as store:
        instant = parse_instant(known_at, shop_zone(store)) if known_at else None
        days = known_days(read_days(store), instant)
    rows = [asdict(entry) for entry in days]
    for row in rows:
        row.pop("withdrawn_at")
    if json_output:
        emit({"days": rows}, json_output=True, title="")
    else:
        print_rows(rows, title=f"Calendar: {len(rows):,} days")


@calendar_app.command("clear")
def clear_calendar(json_output: JsonFlag = False) -> None:
    """Withdraw every announced day; what was known before stays on record.

    Example: retail calendar clear
    """
    from retail_core.store.mongo.connection import open_store
    from retail_core.store.mongo.shop_calendar import replace_calendar

    with open_store(load_settings()) as store:
        report = replace_calendar(store, [], datetime.now(UTC))
    emit(asdict(report), json_output=json_output, title="Calendar cleared")
