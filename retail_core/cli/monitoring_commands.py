"""`retail outcomes`, `monitor` and `retrain`: matured predictions, live quality, retraining."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from retail_core.cli.output import JsonFlag, emit, print_rows
from retail_core.settings import load_settings

AsOfNewestEvent = Annotated[
    str | None, typer.Option("--as-of", help="ISO 8601; default: the newest event's time.")
]
_SHOWN_ROWS = 20
_LIVE_COLUMNS = (
    *("day", "n", "buyers", "expected_buyers", "ap", "expected_ap", "f1", "expected_f1"),
    *("precision", "recall", "brier"),
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (outcomes, monitor, retrain):
        app.command()(command)


def outcomes(as_of: AsOfNewestEvent = None, json_output: JsonFlag = False) -> None:
    """Join matured predictions with their outcomes, and judge the shadows on them.

    Example: retail outcomes
    """
    from retail_core.monitoring.outcome_review import review_outcomes
    from retail_core.workspace import open_workspace

    with open_workspace(load_settings()) as workspace:
        instant = workspace.resolve_as_of(as_of, midnight=False)
        report = review_outcomes(workspace, as_of=instant).to_dict()
    if not json_output:
        print_rows(report.pop("online")[-_SHOWN_ROWS:], title="Online answers by day and policy")
        print_rows(report.pop("shadows"), title="Shadows")
    emit(report, json_output=json_output, title="Outcomes")


def monitor(as_of: AsOfNewestEvent = None, json_output: JsonFlag = False) -> None:
    """Show triggers, drift and live quality by day of the production model.

    Example: retail monitor
    """
    from retail_core.monitoring.monitor_report import monitor as run
    from retail_core.workspace import open_workspace

    with open_workspace(load_settings()) as workspace:
        instant = workspace.resolve_as_of(as_of, midnight=False)
        report = run(workspace, as_of=instant, at=datetime.now(UTC))
    result = asdict(report)
    if not json_output:
        print_rows(result.pop("triggers"), title="Triggers")
        print_rows(result.pop("drift")[:_SHOWN_ROWS], title="Drift, the most striking first")
        live = [{name: day[name] for name in _LIVE_COLUMNS} for day in result.pop("live")]
        print_rows(live, title="Live quality by day, beside what was expected")
        print_rows(result.pop("lists"), title="Expected quality of the newest lists")
        print_rows(result.pop("online")[-_SHOWN_ROWS:], title="Online answers by day and policy")
        print_rows(result.pop("shadows"), title="Shadows")
    emit(result, json_output=json_output, title="Monitoring")


def retrain(
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Check the triggers and say what would be done.")
    ] = False,
    as_of: AsOfNewestEvent = None,
    json_output: JsonFlag = False,
) -> None:
    """Check the triggers; train or recalibrate only if one requests it.

    Example: retail retrain --check-only
    """
    from retail_core.monitoring.retraining import retrain as run
    from retail_core.workspace import open_workspace

    with open_workspace(load_settings()) as workspace:
        instant = workspace.resolve_as_of(as_of, midnight=False)
        report = run(workspace, as_of=instant, check_only=check_only, at=datetime.now(UTC))
    result = report.to_dict()
    if not json_output:
        print_rows([asdict(trigger) for trigger in report.triggers], title="Triggers")
        result.pop("triggers")
    emit(result, json_output=json_output, title="Retraining")
