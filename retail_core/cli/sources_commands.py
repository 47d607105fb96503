"""`retail sources`: recognise the dialect of a log before it is ingested."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retail_core.cli.output import JsonFlag, emit, print_line, print_rows
from retail_core.csv_export import require_parent_folder
from retail_core.errors import InputError

if TYPE_CHECKING:
    from retail_core.sources.detection import Detection
    from retail_core.sources.detection.trial import Trial

sources_app = typer.Typer(help="Dialects of raw logs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands to `app`."""
    app.add_typer(sources_app, name="sources")


@sources_app.callback()
def _sources() -> None:
    """Keep `detect` a subcommand although it is the only one."""


@sources_app.command()
def detect(
    file: Annotated[Path, typer.Argument(help="CSV, .gz, .zst, Parquet or JSON lines.")],
    write: Annotated[Path | None, typer.Option(help="Write the proposed mapping to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --write.")] = False,
    json_output: JsonFlag = False,
) -> None:
    """Recognise the preset of a log, or propose a mapping for it, and show what an ingest would do.

    Nothing is stored. The proposal states its reasons and asks what only you can decide.

    Example: retail sources detect shop.csv --write shop.yaml
    """
    from retail_core.sources.detection import detect as run

    if write is not None:
        _check_writable(write, force=force)
    result = run(file)
    if write is not None:
        write.write_text(result.text, encoding="utf-8")
    problem = result.problem()
    if json_output and problem is None:
        emit(result.document() | {"written": write}, json_output=True, title="")
    if not json_output:
        _print(result)
        if write is not None:
            print_line(f"Written: {write}. Next: retail ingest {file} --mapping {write} --dry-run")
    if problem is not None:
        raise problem


def _check_writable(path: Path, *, force: bool) -> None:
    """Check that a mapping can be written to `path`.

    Raises:
        InputError: its folder does not exist, it is a folder, or it exists and not `force`.
    """
    require_parent_folder(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder.", remedy="name a file to write.")
    if path.exists() and not force:
        raise InputError(f"{path} exists.", remedy="name another file, or add --force to overwrite it.")


def _print(result: Detection) -> None:
    document = result.document()
    if result.preset:
        print_line(f"{result.path}: preset {result.preset}. Ingest it with --source {result.preset}.")
    else:
        layout = "; ".join(document["layout"])
        print_line(f"{result.path}: no preset; {document['kind']}; {layout}.")
        print_rows(document["fields"], title="Fields")
        print_line("\nProposed mapping:\n")
        print_line(result.text)
    for name, trial in result.alternatives or ((None, result.trial),):
        _print_trial(trial, f" if the time format is {name}" if name else "")
    for question in result.questions:
        print_line(f"Decide ({question.key}): {question.text}")
        for line in question.choices:
            print_line(f"  {line}")
        for line in question.alternatives:
            print_line(f"  or {line}")
    for note in document["notes"]:
        print_line(f"Note: {note}")


def _print_trial(trial: Trial, condition: str) -> None:
    if trial.problem is not None or not trial.events + trial.links + trial.users + trial.refused:
        return
    print_rows([_preview(row) for row in trial.preview], title=f"First rows{condition}")
    links = f" {trial.links:,} give links of ids," if trial.links else ""
    users = f" {trial.users:,} give attributes of users," if trial.users else ""
    print_line(
        f"Of the first rows {trial.events:,} become events,{links}{users} {trial.refused:,} would be refused."
    )
    if trial.event_types:
        types = ", ".join(f"{name} {count:,}" for name, count in trial.event_types.items())
        print_line(f"Event types: {types}")
    if trial.refusals:
        print_rows(list(trial.refusals), title="Would be refused")
    for warning in trial.warnings:
        print_line(f"Warning: {warning['field'] or 'row'}: {warning['rule']}, {warning['count']:,} events.")
    for filtered in trial.filtered:
        condition = f"{filtered['column']}: {filtered['value'] or filtered['rule']}"
        print_line(f"Left out: {filtered['count']:,} rows ({condition}).")
    if trial.unread_columns:
        print_line(f"Columns that nothing reads: {', '.join(trial.unread_columns)}")


def _preview(row: Mapping[str, Any]) -> dict[str, Any]:
    if "event" in row:
        return {"line": row["line"], "raw": _short(row["raw"]), "event": _event(row["event"])}
    return {name: _event(values) for name, values in row.items()}


def _event(event: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in event.items())


def _short(raw: str, limit: int = 160) -> str:
    return raw if len(raw) <= limit else raw[:limit] + "..."
