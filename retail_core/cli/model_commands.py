"""`retail train`, `score` and `audience`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from retail_core.cli import shadow_command
from retail_core.cli.engine import EngineOption, with_engine
from retail_core.cli.output import JsonFlag, emit, progress, warn
from retail_core.cli.registry_commands import models_app
from retail_core.errors import InputError
from retail_core.settings import load_settings

AsOf = Annotated[str | None, typer.Option("--as-of", help="ISO 8601; default: from the newest event.")]

ListAsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="ISO 8601; default: next midnight if the last day is complete, else the newest event.",
    ),
]

TargetRecall = Annotated[
    float | None,
    typer.Option(
        "--target-recall",
        min=0.01,
        max=1.0,
        help="Share of buyers to find, certified or refused; 1.0: none missed. Default: 0.95 where possible.",
    ),
]

Reasons = Annotated[
    int,
    typer.Option(min=0, help="Number of users at the top of the CSV that get reasons; not in Parquet."),
]

Cutoffs = Annotated[
    str | None, typer.Option(help="daily, in-session, first-visit; default: what fits the log.")
]

Family = Annotated[str, typer.Option(help="auto, or a model family such as logistic, lightgbm or rf.")]

Confidence = Annotated[float, typer.Option(min=0.5, max=0.9999)]

AllowLeak = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-leak",
        metavar="COLUMN",
        help="Allow this leaking attribute, feature or event type (repeatable); never promoted.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    for command in (train, score, audience):
        app.command()(command)
    shadow_command.register(models_app)
    app.add_typer(models_app, name="models")


def train(  # noqa: PLR0913, PLR0917 - one option each
    as_of: AsOf = None,
    cutoffs: Cutoffs = None,
    model: Family = "auto",
    target_recall: TargetRecall = None,
    confidence: Confidence = 0.95,
    allow_leak: AllowLeak = None,
    json_output: JsonFlag = False,
) -> None:
    """Search, calibrate, evaluate, log and register a model; promote it if the gate says so.

    Example: retail train --as-of 2025-02-15T00:00:00Z
    """
    from retail_core.scoring.shop_context import store_shop_context
    from retail_core.training.options import TrainOptions
    from retail_core.training.pipeline import train as run
    from retail_core.workspace import open_workspace

    options = TrainOptions.from_request(cutoffs, model, target_recall, confidence, allow_leak or ())
    with open_workspace(load_settings()) as workspace, progress("train", quiet=json_output) as advance:
        instant = workspace.resolve_as_of(as_of, midnight=True)
        store_shop_context(workspace)
        report = run(workspace, as_of=instant, options=options, progress=advance)
    emit(report.to_dict(), json_output=json_output, title="Trained")


def score(
    as_of: ListAsOf = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV of every scored user; with Spark also FILE.parquet, a folder.")
    ] = None,
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not keep the predictions.")] = False,
    engine: EngineOption = None,
    reasons: Reasons = 1_000,
    json_output: JsonFlag = False,
) -> None:
    """Score every eligible user with the production model.

    With --out FILE.parquet the scores are made on Spark, partition by partition, and only written there:
    without ranks and reasons.

    Example: retail score --as-of 2025-02-15T00:00:00Z --out scores.csv
    """
    from retail_core.csv_export import require_parent_folder
    from retail_core.scoring.scores import load_scoring_model
    from retail_core.scoring.scores import score as run
    from retail_core.scoring.spark_scores import score_on_spark
    from retail_core.workspace import open_workspace

    with open_workspace(with_engine(load_settings(), engine)) as workspace:
        instant = workspace.list_cutoff(as_of)
        if out is not None and out.suffix == ".parquet":
            if workspace.settings.engine != "spark":
                raise InputError(
                    "Parquet is what Spark writes.", remedy="add --engine spark, or name a .csv."
                )
            require_parent_folder(out)
            served = load_scoring_model(workspace)
            written = score_on_spark(
                workspace.lake.snapshot(), served, workspace.engine, as_of=instant, out=str(out.absolute())
            )
            spec = served.spec
            statement = workspace.describe_window(instant, spec.feature_set.task, spec.primary)
            result = asdict(written) | {"statement": statement}
            emit(result, json_output=json_output, title="Scored")
            return
        report = run(
            workspace, as_of=instant, out=out, keep=not no_store, reasons=reasons, now=_log_end(as_of)
        )
    warn(report.warnings)
    emit(asdict(report), json_output=json_output, title="Scored")


def audience(  # noqa: PLR0913, PLR0917 - one option each
    out: Annotated[Path, typer.Option(help="CSV of the users to contact; the control group is not in it.")],
    as_of: ListAsOf = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Number of most probable users to contact.")
    ] = None,
    recall: Annotated[float | None, typer.Option(help="Share of buyers to find, certified.")] = None,
    cost: Annotated[float | None, typer.Option(help="Of a contact; with --value.")] = None,
    value: Annotated[float | None, typer.Option(help="Of a purchase; with --cost.")] = None,
    no_miss: Annotated[
        bool, typer.Option("--no-miss", help="Every user above the no-miss threshold.")
    ] = False,
    control: Annotated[float, typer.Option(min=0, max=0.9, help="Share held out at random.")] = 0.1,
    reasons: Reasons = 1_000,
    json_output: JsonFlag = False,
) -> None:
    """Choose whom to contact: by budget, recall, or cost and value; a control group is held out.

    Example: retail audience --as-of 2025-02-15T00:00:00Z --budget 1000 --out audience.csv
    """
    from retail_core.scoring.audience_selection import choose_audience
    from retail_core.scoring.audience_sizing import Sizing
    from retail_core.workspace import open_workspace

    sizing = Sizing(budget, recall, cost, value, no_miss, control)
    with open_workspace(load_settings()) as workspace:
        instant = workspace.list_cutoff(as_of)
        report = choose_audience(
            workspace, as_of=instant, sizing=sizing, out=out, reasons=reasons, now=_log_end(as_of)
        )
    warn(report.warnings)
    emit(asdict(report), json_output=json_output, title="Audience")


def _log_end(as_of: str | None) -> datetime | None:
    """Instant that the log should reach: the present time, or the cut-off (None) where one is given."""
    return None if as_of else datetime.now(UTC)
