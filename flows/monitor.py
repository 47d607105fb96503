"""Flow `monitor`: check every trigger, measure drift and live quality, raise alerts.

Example: python -m flows.monitor --json
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows.command_line import AsOf, JsonFlag, print_result, resolve_as_of, run_command
from flows.flow_runtime import ReportFields, current_time, fail_with_message, retryable_task
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.monitoring.monitor_report import monitor
from retail_core.settings import load_settings
from retail_core.times import to_utc_ms
from retail_core.workspace import open_workspace


@retryable_task("check the triggers")
def check(as_of: datetime, at: datetime) -> ReportFields:
    """Check and store the triggers. Idempotent, apart from one more stored check."""
    with open_workspace(load_settings()) as workspace:
        return asdict(monitor(workspace, as_of=as_of, at=at))


@retryable_task("show the report")
def show_report(report: ReportFields, as_of: datetime) -> None:
    """Publish triggers, drift and live quality in the Prefect UI."""
    for key in ("triggers", "drift", "live"):
        rows = cast("Sequence[Mapping[str, Any]]", report[key])
        table = [{name: as_text(value) for name, value in row.items()} for row in rows]
        create_table_artifact(table, key=f"monitor-{key}", description=f"{key} at {as_text(as_of)}")


@flow(name="monitor", flow_run_name=day_name, description="Check every trigger; raise alerts.")
@fail_with_message
def monitor_flow(as_of: datetime | None = None) -> State[ReportFields]:
    """Check at `as_of`, by default now."""
    at = current_time()
    instant = to_utc_ms(as_of) if as_of is not None else at
    report = check(instant, at)
    show_report(report, instant)
    return Completed(message=f"version {report['model_version']}: {report['status']}", data=report)


def main(as_of: AsOf = None, json_output: JsonFlag = False) -> None:
    """Check every trigger as a Prefect flow.

    Example: python -m flows.monitor --json
    """
    state = monitor_flow(resolve_as_of(as_of, midnight=False), return_state=True)
    print_result(state, title="Monitoring", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
