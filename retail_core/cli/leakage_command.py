"""`retail doctor --leakage`: the leakage guard on a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from retail_core.cli.dialect import dialect_of
from retail_core.cli.output import emit, print_line, print_rows, printable
from retail_core.errors import InputError
from retail_core.settings import Settings

if TYPE_CHECKING:
    from retail_core.sources.source import Source


def examine(
    path: Path, dialect: tuple[str | None, Path | None], label: str, settings: Settings, *, json_output: bool
) -> None:
    """Print the findings of the leakage guard; exit with 1 if the file leaks.

    Args:
        path: a raw file of a source, or a table with a label.
        dialect: preset and mapping, at most one of them given; neither: a table if it has the label,
            else the preset that fits its columns.
        label: label column of the table.
        settings: rows and seed of the quick model.
        json_output: print one JSON object.

    Raises:
        InputError: the file is neither, or cannot be read.
    """
    from retail_core.training.leakage_inspection import inspect_log, inspect_table

    source = _source(path, dialect, label)
    report = inspect_table(path, label, settings) if source is None else inspect_log(path, source, settings)
    error = report.error()
    if json_output:
        failure = {"error": error.message, "remedy": error.remedy} if error else {}
        emit({"ok": error is None, **failure, **report.to_dict()}, json_output=True, title="")
    else:
        findings = [{"check": f.check, "verdict": f.verdict, "what": f.what} for f in report.findings]
        print_rows(
            findings or [{"what": "nothing gives the answer away"}], title=f"Leakage: {report.verdict}"
        )
        for policy, figures in report.model.items():
            emit(figures, json_output=False, title=f"A quick model, {policy} rows")
        for warning in report.warnings:
            print_line(warning)
    if error:
        if not json_output:
            typer.echo(printable(f"error: {error}"), err=True)
        raise typer.Exit(error.exit_code)


def _source(path: Path, dialect: tuple[str | None, Path | None], label: str) -> Source | None:
    from retail_core.sources.presets import get_preset, matching_preset
    from retail_core.training.leakage_inspection import columns_of

    if any(dialect):
        return dialect_of(*dialect)
    header = columns_of(path)
    if label in header:
        return None
    fits = matching_preset(header)
    if fits is None:
        raise InputError(
            f"{path} has no column {label!r} and is of no source that is known by its columns.",
            remedy="name its --source or --mapping, or the --label column of a table.",
        )
    return get_preset(fits)
