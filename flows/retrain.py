"""Retrain if a trigger fires; else end as Skipped.

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

from flows.edge import AsOf, JsonFlag, finish, instant, run
from flows.running import Report, now, once, plainly, step
from retail_core.cli.output import as_text
from retail_core.monitoring.retraining import retrain
from retail_core.settings import load_settings
from retail_core.times import to_utc_ms
from retail_core.workspace import open_workspace

SKIPPED = "Skipped"


@once("check the triggers and train if one fires")
def check_and_train(as_of: datetime, check_only: bool, at: datetime) -> Report:
    """May register a new version, so never retried."""
    with open_workspace(load_settings()) as work:
        report = retrain(work, as_of=as_of, check_only=check_only, at=at)
    return report.to_dict()


@step("show the triggers")
def show(report: Report, as_of: datetime) -> None:
    """Every trigger with value, limit and evidence, in the Prefect UI."""
    checks = cast("Sequence[dict[str, Any]]", report["triggers"])
    table = [{name: as_text(value) for name, value in entry.items()} for entry in checks]
    create_table_artifact(table, key="retrain-triggers", description=f"Triggers at {as_text(as_of)}")


@flow(name="retrain", description="Check the triggers; train a challenger only if one fires.")
@plainly
def retrain_flow(
    as_of: datetime | None = None, check_only: bool = False, requested_by: str | None = None
) -> State[Report]:
    """Check at `as_of`, by default now; `requested_by` says in the log what asked for the check."""
    moment, at = (to_utc_ms(as_of) if as_of is not None else now()), now()
    get_run_logger().info("asked for by %s", requested_by or "hand or schedule")
    report = check_and_train(moment, check_only, at)
    show(report, moment)
    if not report["retrained"]:
        return Completed(name=SKIPPED, message=str(report["reason"]), data=report)
    verdict = "promoted" if report["promoted"] else "not promoted"
    return Completed(message=f"version {report['version']} {verdict} ({report['reason']})", data=report)


def main(
    check_only: Annotated[bool, typer.Option("--check-only", help="Only say what would fire.")] = False,
    as_of: AsOf = None,
    json_output: JsonFlag = False,
) -> None:
    """Check the triggers and retrain as a Prefect flow.

    Example: python -m flows.retrain --check-only --json
    """
    state = retrain_flow(instant(as_of, midnight=False), check_only, return_state=True)
    finish(state, title="Retraining", json_output=json_output)


if __name__ == "__main__":
    run(main)
