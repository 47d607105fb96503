"""What became of the predictions; says so to whoever waits for it.

Example: python -m flows.outcomes --json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event
from prefect.states import Completed

from flows.edge import AsOf, JsonFlag, finish, instant, run
from flows.running import Report, now, plainly, step
from retail_core.cli.output import as_text
from retail_core.monitoring.outcomes import mature
from retail_core.settings import load_settings
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import open_workspace

MATURED_EVENT = "retail.outcomes.matured"
"""Emitted when predictions have newly matured; the retrain deployment waits for it."""

RESOURCE = {"prefect.resource.id": "retail.outcomes", "prefect.resource.name": "outcomes"}


@step("join the outcomes")
def join_outcomes(as_of: datetime) -> Report:
    """Label what has matured; replaces whole windows, so it may run twice."""
    with open_workspace(load_settings()) as work:
        return asdict(mature(work, as_of=as_of))


@step("show live quality")
def show(report: Report) -> None:
    """Live metrics overall and by day, in the Prefect UI."""
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


@step("tell that predictions matured")
def announce(report: Report, as_of: datetime) -> None:
    """Emit `MATURED_EVENT` with the instant at which the triggers are to be checked."""
    reason = f"{report['new']} predictions newly matured at {iso(as_of)}"
    payload = {"as_of": iso(as_of), "matured": report["matured"], "new": report["new"], "reason": reason}
    emit_event(MATURED_EVENT, resource=RESOURCE, payload=payload)


@flow(name="outcomes", description="Join matured predictions with what happened; start the retrain check.")
@plainly
def outcomes_flow(as_of: datetime | None = None) -> State[Report]:
    """Mature what has passed at `as_of`, by default now."""
    moment = to_utc_ms(as_of) if as_of is not None else now()
    report = join_outcomes(moment)
    show(report)
    if report["new"]:
        announce(report, moment)
    return Completed(message=f"{report['matured']} matured, {report['new']} new", data=report)


def main(as_of: AsOf = None, json_output: JsonFlag = False) -> None:
    """Mature predictions as a Prefect flow.

    Example: python -m flows.outcomes --json
    """
    state = outcomes_flow(instant(as_of, midnight=False), return_state=True)
    finish(state, title="Outcomes", json_output=json_output)


if __name__ == "__main__":
    run(main)
