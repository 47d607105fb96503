"""Flow `backfill`: score the past midnights that the version in production has not been scored at.

Example: python -m flows.backfill --first 2025-02-01 --last 2025-02-07 --json
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from prefect import State, flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed

from flows.command_line import JsonFlag, print_result, resolve_as_of, run_command
from flows.flow_runtime import SKIPPED, ReportFields, fail_with_message, retryable_task
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.scoring.backfill import unscored_midnights
from retail_core.scoring.scores import score
from retail_core.settings import load_settings
from retail_core.times import to_utc_ms
from retail_core.workspace import open_workspace


@retryable_task("find the midnights")
def find_midnights(first: datetime, last: datetime) -> list[datetime]:
    """Midnights without predictions of the version in production."""
    with open_workspace(load_settings()) as workspace:
        return unscored_midnights(workspace, first, last)


@retryable_task("score a midnight")
def score_midnight(as_of: datetime) -> ReportFields:
    """Score and store one midnight. Idempotent: predictions of the cut-off and version are replaced."""
    with open_workspace(load_settings()) as workspace:
        report = score(workspace, as_of=as_of, out=None)
    return {"as_of": report.as_of, "version": report.model_version, "users": report.users}


@retryable_task("show the midnights")
def show_midnights(scored: list[ReportFields], first: datetime, last: datetime) -> None:
    """Publish what was scored in the Prefect UI."""
    table = [{name: as_text(value) for name, value in row.items()} for row in scored]
    period = f"{as_text(first)} to {as_text(last)}"
    create_table_artifact(table, key="backfill", description=f"Midnights that were scored of {period}")


@flow(name="backfill", flow_run_name=day_name, description="Score past midnights that were missed.")
@fail_with_message
def backfill_flow(first: datetime, last: datetime) -> State[ReportFields]:
    """Score the midnights from `first` to `last` that have no predictions, oldest first."""
    start, end = to_utc_ms(first), to_utc_ms(last)
    scored = [score_midnight(midnight) for midnight in find_midnights(start, end)]
    show_midnights(scored, start, end)
    report: ReportFields = {"first": start, "last": end, "scored": scored}
    if not scored:
        return Completed(name=SKIPPED, message="every midnight has predictions", data=report)
    return Completed(message=f"{len(scored)} midnights scored", data=report)


def main(
    first: Annotated[
        str, typer.Option(help="First midnight, ISO 8601, in the shop's zone without an offset.")
    ],
    last: Annotated[str, typer.Option(help="Last midnight.")],
    json_output: JsonFlag = False,
) -> None:
    """Score missed midnights as a Prefect flow.

    Example: python -m flows.backfill --first 2025-02-01 --last 2025-02-07 --json
    """
    bounds = [resolve_as_of(text, midnight=True) for text in (first, last)]
    state = backfill_flow(*bounds, return_state=True)
    print_result(state, title="Backfilled", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
