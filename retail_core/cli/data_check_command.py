"""`retail data check`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_line, print_rows
from retail_core.settings import load_settings

data_app = typer.Typer(help="The newest days of the data against those before.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(data_app, name="data")


@data_app.command()
def check(
    as_of: Annotated[
        str | None, typer.Option(help="ISO 8601; default: the newest event's time. The log should reach it.")
    ] = None,
    json_output: JsonFlag = False,
) -> None:
    """Show volume, event types, null shares and vocabularies of the newest whole days, and what has changed.

    Example: retail data check --as-of 2025-02-15T06:00:00Z
    """
    from retail_core.monitoring.data_check import check_data
    from retail_core.workspace import open_workspace

    with open_workspace(load_settings()) as workspace:
        report = check_data(workspace, workspace.resolve_as_of(as_of, midnight=False))
    checks = [entry.to_dict() for entry in report.checks]
    if json_output:
        emit(asdict(report) | {"checks": checks}, json_output=True, title="")
        return
    print_rows([asdict(volume) for volume in report.volumes], title="Active users by day")
    print_rows([_without_nulls(asdict(platform)) for platform in report.platforms], title="Platforms")
    print_rows(checks, title="Checks")
    for finding in report.findings:
        print_line(f"Finding: {finding}.")
    if not report.findings:
        print_line(f"Nothing unusual in the whole days up to {report.newest_day}.")


def _without_nulls(platform: dict[str, object]) -> dict[str, object]:
    """The columns of the table for people; null shares are in the JSON."""
    return {name: value for name, value in platform.items() if name != "null_shares"}
