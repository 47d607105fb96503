"""Flow `rollback`: put the version before the one in production back into production.

Example: python -m flows.rollback --from 7 --reason "too many false promises" --json
"""

from __future__ import annotations

from typing import Annotated

import prefect.runtime
import typer
from prefect import State, flow
from prefect.artifacts import create_markdown_artifact
from prefect.states import Completed

from flows.command_line import JsonFlag, print_result, run_command
from flows.flow_runtime import ReportFields, fail_with_message, retryable_task
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.cli.registry_commands import public_entry
from retail_core.registry.promotion import Author, rollback
from retail_core.registry.promotion_record import current_actor
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store


@retryable_task("roll back")
def roll_back(expected: str, reason: str, actor: str) -> ReportFields:
    """Roll the version `expected` back. Idempotent: if it was rolled back last, nothing is done."""
    with open_store(load_settings()) as store:
        change = rollback(store, Author(reason, actor), expected=expected)
    return public_entry(change.entry) | {"repeated": change.repeated}


@retryable_task("show the change")
def show_change(report: ReportFields) -> None:
    """Publish the entry of the promotion record in the Prefect UI."""
    rows = "\n".join(f"| {name} | {as_text(value)} |" for name, value in report.items())
    page = f"# Version {report['version']} is in production\n\n| | |\n|---|---|\n{rows}\n"
    create_markdown_artifact(page, key="rollback", description="The newest rollback")


@flow(name="rollback", flow_run_name=day_name, description="Put the previous version back into production.")
@fail_with_message
def rollback_flow(version: str, reason: str) -> State[ReportFields]:
    """Roll back `version`, which has to be the one in production, for a `reason` that is recorded."""
    run = prefect.runtime.flow_run.name
    report = roll_back(version, reason, f"{current_actor()}, run {run}")
    show_change(report)
    return Completed(message=f"version {report['version']} is in production again: {reason}", data=report)


def main(
    version: Annotated[str, typer.Option("--from", metavar="VERSION", help="The version to roll back.")],
    reason: Annotated[str, typer.Option(help="Why; stored in the promotion record.")],
    json_output: JsonFlag = False,
) -> None:
    """Roll back as a Prefect flow.

    Example: python -m flows.rollback --from 7 --reason "too many false promises" --json
    """
    state = rollback_flow(version, reason, return_state=True)
    print_result(state, title="Rolled back", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
