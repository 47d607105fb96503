"""Flow `score`: the purchase probability of every eligible user at one cut-off.

Example: python -m flows.score --out scores.csv --json
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast

import typer
from pandera.pandas import check_types
from pandera.typing.pandas import DataFrame
from prefect import State, flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import Completed

from flows.command_line import AsOf, JsonFlag, print_result, resolve_list_cutoff, run_command
from flows.flow_runtime import (
    ReportFields,
    current_time,
    fail_with_message,
    list_cutoff,
    retryable_task,
)
from flows.schedules import day_name
from retail_core.cli.output import as_text
from retail_core.schemas import Prediction
from retail_core.scoring.prediction_storage import read_lake_predictions
from retail_core.scoring.scores import score
from retail_core.scoring.shop_context import store_shop_context
from retail_core.settings import load_settings
from retail_core.workspace import open_workspace

TOP = 20
TOP_COLUMNS = ["rank", "probability", "will_purchase", "contact"]
"""Without ids: an erasure does not reach the history of Prefect."""


@retryable_task("score the users")
def score_users(as_of: datetime, out: Path | None, keep: bool, now: datetime | None) -> ReportFields:
    """Score, store and write. Idempotent: predictions of the same cut-off and version are replaced."""
    with open_workspace(load_settings()) as workspace:
        store_shop_context(workspace)
        return asdict(score(workspace, as_of=as_of, out=out, keep=keep, now=now))


@retryable_task("show the summary")
def show_summary(report: ReportFields) -> None:
    """Publish the scoring report in the Prefect UI."""
    lines = "\n".join(f"| {name} | {as_text(value)} |" for name, value in report.items())
    page = f"# Scored {as_text(report['users'])} users\n\n| | |\n|---|---|\n{lines}\n"
    create_markdown_artifact(page, key="score-summary", description="The newest scoring")


@retryable_task("show the top users")
def show_top_users(as_of: datetime, version: str) -> None:
    """Publish the probabilities of the most likely buyers, read from the lake, in the Prefect UI."""
    predictions = read_lake_predictions(load_settings().lake_url, as_of=as_of, version=version)
    create_table_artifact(
        top_users(predictions),
        key="score-top-users",
        description=f"The {TOP} most likely buyers at {as_text(as_of)}, without their ids",
    )


@check_types
def top_users(predictions: DataFrame[Prediction]) -> list[dict[str, object]]:
    """The `TOP` users of highest rank without their ids, one dictionary per table row."""
    top = predictions.nsmallest(TOP, "rank")[TOP_COLUMNS]
    return [{str(name): value for name, value in row.items()} for row in top.to_dict("records")]


@flow(
    name="score", flow_run_name=day_name, description="Score every eligible user with the production model."
)
@fail_with_message
def score_flow(
    as_of: datetime | None = None, out: Path | None = None, keep: bool = True, now: datetime | None = None
) -> State[ReportFields]:
    """Score at `as_of`, by default at the next midnight of the shop if its last day is complete.

    The log should reach `now`, by default the wall clock, or `as_of` if that is given.
    """
    instant = list_cutoff(as_of)
    report = score_users(instant, out, keep, now or (None if as_of else current_time()))
    show_summary(report)
    if keep:
        show_top_users(instant, str(report["model_version"]))
    message = f"{report['users']} users scored with version {report['model_version']}: {report['statement']}"
    message = " ".join([message, *cast("tuple[str, ...]", report["warnings"])])
    return Completed(message=message, data=report)


def main(
    as_of: AsOf = None,
    out: Annotated[Path | None, typer.Option(help="CSV of every scored user.")] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not store the predictions.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Score as a Prefect flow.

    Example: python -m flows.score --as-of 2025-02-15T00:00:00Z --out scores.csv
    """
    now = None if as_of else current_time()
    state = score_flow(resolve_list_cutoff(as_of), out, not no_store, now, return_state=True)
    print_result(state, title="Scored", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
