"""`retail simulate`, `ingest`, `quarantine` and `features`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from retail_core.cli.dialect import MappingOption, SourceOption, dialect_of
from retail_core.cli.engine import EngineOption, with_engine
from retail_core.cli.output import JsonFlag, emit, print_line, print_rows, progress
from retail_core.cli.undo_command import IngestCommand
from retail_core.errors import InputError
from retail_core.settings import load_settings

quarantine_app = typer.Typer(
    help="Refused rows and their reasons; replay them after a fix.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.command()(simulate)
    app.command(cls=IngestCommand)(ingest)
    app.command()(features)
    app.add_typer(quarantine_app, name="quarantine")


def simulate(  # noqa: PLR0913, PLR0917 - one option each
    out: Annotated[Path, typer.Option(help="Log to write: .csv or .csv.gz.")],
    users: Annotated[int, typer.Option(min=1)] = 20_000,
    days: Annotated[int, typer.Option(min=1)] = 45,
    seed: int = 7,
    truth: Annotated[Path | None, typer.Option(help="Also write each user's true probability.")] = None,
    drift: Annotated[str | None, typer.Option(help="Drift in the last third of the days.")] = None,
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"])] = datetime(2025, 1, 1),  # noqa: DTZ001 - a date
    json_output: JsonFlag = False,
) -> None:
    """Write a canonical log of a retail population whose true probabilities are known.

    Example: retail simulate --users 20000 --days 45 --seed 7 --out log.csv.gz --truth truth.parquet
    """
    from retail_core.simulate import SimulationConfig
    from retail_core.simulate import simulate as run

    first_day = date(start.year, start.month, start.day)
    config = SimulationConfig(users=users, days=days, seed=seed, start=first_day, drift=drift)
    with progress("simulate", quiet=json_output) as advance:
        report = run(config, out, truth, lambda done, total: advance("days", done, total))
    emit(asdict(report), json_output=json_output, title=f"Simulated into {out}")


def ingest(  # noqa: PLR0913, PLR0917 - one option each
    files: Annotated[list[Path], typer.Argument(help="CSV, .gz, .zst, Parquet or JSON lines.")],
    source: SourceOption = None,
    mapping: MappingOption = None,
    timezone: Annotated[str | None, typer.Option(help="Zone of times without one.")] = None,
    replace_earlier: Annotated[
        bool, typer.Option("--again", help="Undo a file first that was ingested with other options.")
    ] = False,
    without_storing: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be stored; store nothing.")
    ] = False,
    json_output: JsonFlag = False,
) -> None:
    """Read raw logs into MongoDB. A file already ingested is skipped; a killed run is resumed.

    `retail ingest undo FILE` removes what a file brought; see `retail ingest undo --help`.

    Example: retail ingest 2019-Oct.csv.gz --source rees46
    """
    from retail_core.ingest import dry_run
    from retail_core.ingest import ingest as run
    from retail_core.scoring.shop_context import store_shop_context
    from retail_core.store.mongo.connection import open_store
    from retail_core.workspace import Workspace

    if without_storing and replace_earlier:
        raise typer.BadParameter(
            "--again undoes what a file brought, and --dry-run stores nothing: give one."
        )
    dialect = dialect_of(source, mapping)
    if without_storing:
        result = asdict(dry_run(files, dialect, timezone=timezone))
        _print_ingest(result, title="Dry run, nothing is stored", json_output=json_output)
        return
    with open_store(load_settings()) as store, progress("ingest", quiet=json_output) as advance:
        report = run(
            store,
            files,
            dialect,
            timezone=timezone,
            at=datetime.now(UTC),
            replace_earlier=replace_earlier,
            progress=advance,
        )
        store_shop_context(Workspace.synchronized(store))
    _print_ingest(asdict(report), title="Ingested", json_output=json_output)


def _print_ingest(result: dict[str, Any], *, title: str, json_output: bool) -> None:
    """Print the counts, content, warnings and filtered rows of an ingest."""
    if json_output:
        emit(result, json_output=True, title="")
        return
    refusals = result.pop("refusals", ())
    notes = {name: result.pop(name) for name in ("warnings", "filtered", "summary")}
    emit(result, json_output=False, title=title)
    pairs = {name: dict(notes["summary"][name]) for name in ("event_types", "similar_event_types")}
    emit(notes["summary"] | pairs, json_output=False, title="Content")
    if refusals:
        print_rows(refusals, title="Would be refused")
    _print_notes(notes["warnings"], notes["filtered"])


def _print_notes(warnings: list[dict[str, Any]], filtered: list[dict[str, Any]]) -> None:
    """Print a line for each warning, with its first example, and for each filter."""
    for rows in filtered:
        if rows["rule"] == "identity":
            print_line(f"Read as identity links: {rows['count']:,} rows ({rows['column']} {rows['value']})")
            continue
        condition = f"{rows['rule']} {rows['value'] or ''}".strip()
        print_line(f"Left out by the mapping: {rows['count']:,} rows (column {rows['column']}: {condition})")
    for warning in warnings:
        example = next(iter(warning["examples"]), None)
        place = f", for example {_place(example)}" if example else ""
        column = warning["field"] or "row"
        text = f"Warning: {column}: {warning['rule']}, {warning['count']:,} events{place}"
        print_line(f"{text}. Remedy: {warning['remedy']}.")


def _place(example: Mapping[str, Any]) -> str:
    """Value of an example with its file and line, where it has one."""
    value = repr(example["value"])
    return f"{value} ({example['file']}, line {example['line']})" if example["line"] else value


def features(
    out: Annotated[Path, typer.Option(help="Parquet file to write.")],
    as_of: Annotated[
        str | None,
        typer.Option(help="One instant or several, separated by commas; default: as for `retail score`."),
    ] = None,
    engine: EngineOption = None,
    json_output: JsonFlag = False,
) -> None:
    """Compute every feature of every eligible user as of the given instants.

    Example: retail features --as-of 2025-02-01,2025-02-02 --out features.parquet
    """
    from retail_core.features.feature_export import export_features
    from retail_core.workspace import open_workspace

    if out.suffix != ".parquet":
        raise InputError(f"{out} is not a .parquet file.", remedy="name the output FILE.parquet.")
    started = time.perf_counter()
    settings = with_engine(load_settings(), engine)
    with open_workspace(settings) as workspace:
        task = workspace.task
        texts = as_of.split(",") if as_of else [None]
        instants = sorted({workspace.list_cutoff(text) for text in texts})
        report = export_features(workspace.lake, task, instants, out, engine=workspace.engine)
        statement = "; ".join(workspace.describe_window(instant, task) for instant in instants)
    seconds = round(time.perf_counter() - started, 3)
    result = {**report, "statement": statement, "seconds": seconds}
    emit(result, json_output=json_output, title=f"Features in {out}")


@quarantine_app.command("list")
def list_quarantine(
    limit: Annotated[int, typer.Option(min=1, help="How many rows to show.")] = 50,
    json_output: JsonFlag = False,
) -> None:
    """Show refused rows, newest first.

    Example: retail quarantine list --limit 20
    """
    from retail_core.store.mongo import quarantine
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        rows = quarantine.list_refused(store, limit)
        total = quarantine.count_refused(store)
    if json_output:
        emit({"rows": rows, "total": total}, json_output=True, title="")
        return
    print_rows(rows, title=f"Quarantine: {len(rows)} of {total:,} rows")


@quarantine_app.command("export")
def export_quarantine(file: Path, json_output: JsonFlag = False) -> None:
    """Write every refused row with its reason to a CSV file.

    Example: retail quarantine export refused.csv
    """
    from retail_core.store.mongo import quarantine
    from retail_core.store.mongo.connection import open_store

    with open_store(load_settings()) as store:
        rows = quarantine.export_csv(store, file)
    emit({"rows": rows, "file": file}, json_output=json_output, title="Quarantine exported")


@quarantine_app.command("replay")
def replay_quarantine(
    source: SourceOption = None, mapping: MappingOption = None, json_output: JsonFlag = False
) -> None:
    """Parse the refused rows of a source again with the current rules and mapping.

    Example: retail quarantine replay --mapping shop.yaml
    """
    from retail_core.ingest import replay
    from retail_core.scoring.shop_context import store_shop_context
    from retail_core.store.mongo.connection import open_store
    from retail_core.workspace import Workspace

    dialect = dialect_of(source, mapping)
    with open_store(load_settings()) as store:
        report = replay(store, dialect, at=datetime.now(UTC))
        store_shop_context(Workspace.synchronized(store))
    emit(asdict(report), json_output=json_output, title="Replayed")
