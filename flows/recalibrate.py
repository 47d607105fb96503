"""Flow `recalibrate`: new calibrators and thresholds for the rankers in production.

Example: python -m flows.recalibrate --json
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed

from flows.command_line import AsOf, JsonFlag, print_result, resolve_as_of, run_command
from flows.flow_runtime import (
    ReportFields,
    fail_with_message,
    non_retryable_task,
    retryable_task,
    training_cutoff,
)
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.settings import load_settings
from retail_core.training.recalibration import recalibrate
from retail_core.workspace import open_workspace


@non_retryable_task("recalibrate")
def recalibrate_version(version: str | None, as_of: datetime) -> ReportFields:
    """Refit the calibrators. Each run registers a version, so it is not retried."""
    with open_workspace(load_settings()) as workspace:
        return recalibrate(workspace, version=version, as_of=as_of).to_dict()


@retryable_task("show the report")
def show_report(report: ReportFields) -> None:
    """Publish the report in the Prefect UI."""
    rows = "\n".join(f"| {name} | {as_text(value)} |" for name, value in report.items())
    page = f"# Version {report['version']}\n\n| | |\n|---|---|\n{rows}\n"
    create_markdown_artifact(page, key="recalibration", description="The newest recalibration")


@flow(
    name="recalibrate", flow_run_name=day_name, description="New calibrators for the rankers in production."
)
@fail_with_message
def recalibrate_flow(version: str | None = None, as_of: datetime | None = None) -> State[ReportFields]:
    """Recalibrate `version`, by default the one in production, as of the shop's last midnight."""
    report = recalibrate_version(version, training_cutoff(as_of))
    show_report(report)
    message = f"version {report['version']} {report['verdict']}: {report['reason']}"
    return Completed(message=message, data=report)


def main(
    version: Annotated[str | None, typer.Option(help="Default: the one in production.")] = None,
    as_of: AsOf = None,
    json_output: JsonFlag = False,
) -> None:
    """Recalibrate as a Prefect flow.

    Example: python -m flows.recalibrate --json
    """
    state = recalibrate_flow(version, resolve_as_of(as_of, midnight=True), return_state=True)
    print_result(state, title="Recalibrated", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
