"""Flow `train`: search, calibrate, evaluate and register a model; promote it if the gate allows.

Example: python -m flows.train --as-of 2025-02-15T00:00:00Z --json
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

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
from retail_core.cli.model_commands import AllowLeak, Confidence, Cutoffs, Family, TargetRecall
from retail_core.cli.output import as_text
from retail_core.scoring.shop_context import store_shop_context
from retail_core.settings import load_settings
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.workspace import open_workspace


@non_retryable_task("train")
def train_model(as_of: datetime, options: TrainOptions) -> ReportFields:
    """Train on the events before `as_of`. Each run registers a version, so it is not retried."""
    with open_workspace(load_settings()) as workspace:
        store_shop_context(workspace)
        return train(workspace, as_of=as_of, options=options).to_dict()


@retryable_task("show the metrics")
def show_metrics(report: ReportFields) -> None:
    """Publish metrics with their population, period and base rate in the Prefect UI."""
    create_markdown_artifact(training_page(report), key="training", description="The newest training")


def training_page(report: ReportFields) -> str:
    """The training report as Markdown."""
    metrics = cast("Mapping[str, object]", report["metrics"])
    in_text = ("population", "first_cutoff", "last_cutoff")
    rows = "\n".join(
        f"| {name} | {as_text(value)} |" for name, value in metrics.items() if name not in in_text
    )
    gate = cast("Mapping[str, object]", report["gate"])
    evidence = "\n".join(
        f"| {name} | {as_text(value)} |"
        for name, value in cast("Mapping[str, object]", gate["evidence"]).items()
    )
    return (
        f"# Version {report['version']}: {gate['verdict']}\n\n{report['reason']}\n\n"
        f"| promotion gate | value |\n|---|---|\n{evidence}\n\n"
        f"Trained on events until {report['known_until']}. Evaluated on {metrics['population']}, "
        f"cut-offs {metrics['first_cutoff']} to {metrics['last_cutoff']}, split {as_text(report['split'])}: "
        f"{as_text(metrics['n'])} rows, base rate {as_text(metrics['base_rate'])}.\n\n"
        f"| metric | value |\n|---|---|\n{rows}\n\n"
        f"Threshold {as_text(report['threshold'])}: {report['price']}.\n\n"
        f"Eligible users: {as_text(report['eligible'])}. MLflow run `{report['run_id']}`.\n"
    )


@flow(
    name="train",
    flow_run_name=day_name,
    description="Train a challenger; the promotion gate decides about production.",
)
@fail_with_message
def train_flow(
    as_of: datetime | None = None,
    cutoffs: str | None = None,
    model: str = "auto",
    target_recall: float | None = None,
    confidence: float = 0.95,
    allow_leak: tuple[str, ...] = (),
) -> State[ReportFields]:
    """Train as of `as_of`, by default the last midnight of the shop before the newest event."""
    instant = training_cutoff(as_of)
    options = TrainOptions.from_request(cutoffs, model, target_recall, confidence, allow_leak)
    report = train_model(instant, options)
    show_metrics(report)
    verdict = cast("Mapping[str, object]", report["gate"])["verdict"]
    return Completed(message=f"version {report['version']} {verdict}: {report['reason']}", data=report)


def main(  # noqa: PLR0913, PLR0917 - one option each
    as_of: AsOf = None,
    cutoffs: Cutoffs = None,
    model: Family = "auto",
    target_recall: TargetRecall = None,
    confidence: Confidence = 0.95,
    allow_leak: AllowLeak = None,
    json_output: JsonFlag = False,
) -> None:
    """Train as a Prefect flow.

    Example: python -m flows.train --as-of 2025-02-15T00:00:00Z --json
    """
    instant = resolve_as_of(as_of, midnight=True)
    allowed = tuple(allow_leak or ())
    state = train_flow(instant, cutoffs, model, target_recall, confidence, allowed, return_state=True)
    print_result(state, title="Trained", json_output=json_output)


if __name__ == "__main__":
    run_command(main)
