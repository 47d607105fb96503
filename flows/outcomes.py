"""Flow `outcomes`: label matured predictions and emit the event that starts the retraining check.

Example: python -m flows.outcomes --json
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event
from prefect.states import Completed

from flows.command_line import AsOf, JsonFlag, print_result, resolve_as_of, run_command
from flows.flow_runtime import ReportFields, current_time, fail_with_message, retryable_task
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.monitoring.outcome_review import review_outcomes
from retail_core.settings import load_settings
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import open_workspace

MATURED_EVENT = "retail.outcomes.matured"
"""Emitted when predictions have newly matured; it triggers the deployment `retrain`."""

RESOURCE = {"prefect.resource.id": "retail.outcomes", "prefect.resource.name": "outcomes"}


@retryable_task("join the outcomes")
def join_outcomes(as_of: datetime) -> ReportFields:
    """Label what matured at `as_of` and judge the shadows. Idempotent: whole windows are replaced."""
    with open_workspace(load_settings()) as workspace:
        return review_outcomes(workspace, as_of=as_of).to_dict()


@retryable_task("show live quality")
def show_live_metrics(report: ReportFields) -> None:
    """Publish live metrics, overall and by day, in the Prefect UI."""
    overall = cast("dict[str, object] | None", report["metrics"])
    page = "Nothing has matured yet."
    if overall is not None:
        rows = "\n".join(f"| {name} | {as_text(value)} |" for name, value in overall.items())
        page = f"# Live quality\n\n| | |\n|---|---|\n{rows}\n"
    create_markdown_artifact(page, key="outcomes", description="Matured predictions")
    days = cast("Sequence[dict[str, Any]]", report["by_day"])
    if days:
        table = [{name: as_text(value) for name, value in day.items()} for day in days]
        create_table_artifact(table, key="outcomes-by-day", description="Live quality by day of cut-off")
    shadows = cast("Sequence[dict[str, Any]]", report["shadows"])
    if shadows:
        table = [{name: as_text(value) for name, value in shadow.items()} for shadow in shadows]
        create_table_artifact(table, key="shadows", description="Versions that score silently")


@retryable_task("tell that predictions matured")
def emit_matured_event(report: ReportFields, as_of: datetime) -> None:
    """Emit `MATURED_EVENT` with the cut-off at which `retrain` checks the triggers."""
    reason = f"{report['new']} predictions newly matured at {iso(as_of)}"
    payload = {"as_of": iso(as_of), "matured": report["matured"], "new": report["new"], "reason": reason}
    emit_event(MATURED_EVENT, resource=RESOURCE, payload=payload)


@flow(
    name="outcomes",
    flow_run_name=day_name,
    description="Label matured predictions; start the retraining check.",
)
@fail_with_message
def outcomes_flow(as_of: datetime | None = None) -> State[ReportFields]:
    """Label the predictions whose horizon has passed at `as_of`, by default now."""
    instant = to_utc_ms(as_of) if as_of is not None else current_time()
    report = join_outcomes(instant)
    show_live_metrics(report)
    if report["new"]:
        emit_matured_event(report, instant)
    return Completed(message=f"{report['matured']} matured, {report['new']} new", data=report)


def main(as_of: AsOf = None, json_output: JsonFlag = False) -> None:
    """Label matured predictions as a Prefect flow.

    Example: python -m flows.outcomes --json
    """
    state = outcomes_flow(resolve_as_of(as_of, midnight=False), return_state=True)
    print_result(state, title="Outcomes", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
