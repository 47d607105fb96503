"""Flow `retrain`: train or recalibrate if a trigger requests it; otherwise the run ends as Skipped.

Example: python -m flows.retrain --check-only --json
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, cast

import typer
from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.states import Completed

from flows.command_line import AsOf, JsonFlag, print_result, resolve_as_of, run_command
from flows.flow_runtime import (
    SKIPPED,
    ReportFields,
    current_time,
    fail_with_message,
    non_retryable_task,
    retryable_task,
)
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.monitoring.retraining import retrain
from retail_core.settings import load_settings
from retail_core.times import to_utc_ms
from retail_core.workspace import open_workspace


@non_retryable_task("check the triggers and do what they request")
def check_and_train(as_of: datetime, check_only: bool, at: datetime) -> ReportFields:
    """Check the triggers, then train or recalibrate. May register a version, so it is not retried."""
    with open_workspace(load_settings()) as workspace:
        report = retrain(workspace, as_of=as_of, check_only=check_only, at=at)
    return report.to_dict()


@retryable_task("show the triggers")
def show_triggers(report: ReportFields, as_of: datetime) -> None:
    """Publish every trigger with value, limit and evidence in the Prefect UI."""
    checks = cast("Sequence[dict[str, Any]]", report["triggers"])
    table = [{name: as_text(value) for name, value in entry.items()} for entry in checks]
    description = f"Triggers at {as_text(as_of)}. Action: {report['action']}, {report['explanation']}."
    if report["version"]:
        description += f" Version {report['version']}: {report['verdict']}. {report['decision']}"
    create_table_artifact(table, key="retrain-triggers", description=description)


@flow(
    name="retrain",
    flow_run_name=day_name,
    description="Check the triggers; train or recalibrate only if one requests it.",
)
@fail_with_message
def retrain_flow(
    as_of: datetime | None = None, check_only: bool = False, requested_by: str | None = None
) -> State[ReportFields]:
    """Check at `as_of`, by default now. `requested_by`, the cause of the check, is logged."""
    instant, at = (to_utc_ms(as_of) if as_of is not None else current_time()), current_time()
    get_run_logger().info("Requested by: %s", requested_by or "a user or the schedule")
    report = check_and_train(instant, check_only, at)
    show_triggers(report, instant)
    if report["version"] is None:
        return Completed(name=SKIPPED, message=str(report["reason"]), data=report)
    done = "trained" if report["retrained"] else "recalibrated"
    message = (
        f"version {report['version']} {done} ({report['reason']}), {report['verdict']}: {report['decision']}"
    )
    return Completed(message=message, data=report)


def main(
    check_only: Annotated[bool, typer.Option("--check-only", help="Only check the triggers.")] = False,
    as_of: AsOf = None,
    json_output: JsonFlag = False,
) -> None:
    """Check the triggers and retrain as a Prefect flow.

    Example: python -m flows.retrain --check-only --json
    """
    state = retrain_flow(resolve_as_of(as_of, midnight=False), check_only, return_state=True)
    print_result(state, title="Retraining", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
