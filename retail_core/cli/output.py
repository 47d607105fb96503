"""Output of commands: one JSON object or tables on stdout; progress and logs on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from retail_core.times import iso

JsonFlag = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]
Advance = Callable[[str, int, int], None]

console = Console(stderr=True)
screen = Console(width=None if sys.stdout.isatty() else 120)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")


def emit(result: Mapping[str, object], *, json_output: bool, title: str) -> None:
    """Print `result`: as one line of JSON, or as a table of its scalar entries."""
    if json_output:
        typer.echo(json.dumps(_finite(result), default=_plain, allow_nan=False))
        return
    table = Table(title=_text(title), show_header=False, title_justify="left")
    for key, value in result.items():
        table.add_row(_text(key), _text(as_text(value)))
    screen.print(table)


def emit_error(message: str, remedy: str) -> None:
    """Print the JSON object of a failed command that was run with `--json`."""
    if "--json" in sys.argv:
        typer.echo(json.dumps({"error": message, "remedy": remedy}))


def printable(text: str) -> str:
    r"""`text` with terminal control characters escaped; line breaks stay.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def print_line(text: str) -> None:
    """Print a line on stdout; markup in it is not interpreted."""
    screen.print(printable(text), markup=False, highlight=False)


def log_line(text: str) -> None:
    """As `print_line`, on stderr, for commands whose stdout is one JSON object."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def warn(warnings: Sequence[str]) -> None:
    """Print each warning of a report in a line of its own, on stderr."""
    for warning in warnings:
        log_line(f"warning: {warning}")


def _text(text: str) -> Text:
    return Text(printable(text))


def _finite(value: object) -> object:
    """`value` with NaN and infinity replaced by None, which JSON can represent."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {str(key): _finite(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_finite(entry) for entry in value]
        case _:
            return value


def as_text(value: object) -> str:
    """`value` as text for people."""
    match value:
        case None:
            text = "-"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:,.4g}"
        case datetime():
            text = iso(value)
        case Mapping():
            text = ", ".join(f"{key} {as_text(entry)}" for key, entry in value.items()) or "-"
        case list() | tuple():
            text = "; ".join(as_text(entry) for entry in value) or "-"
        case _:
            text = str(value)
    return text


def print_rows(rows: Sequence[Mapping[str, object]], *, title: str) -> None:
    """Print a table with one line per mapping; the first row's keys are the columns."""
    if not rows:
        print_line(f"{title}: nothing")
        return
    table = Table(title=_text(title), title_justify="left")
    columns = list(rows[0])
    for column in columns:
        table.add_column(_text(column))
    for row in rows:
        table.add_row(*(_text(as_text(row.get(column))) for column in columns))
    screen.print(table)


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Advance]:
    """`advance(stage, done, total)`: a bar on a terminal, a line for each new stage when piped."""
    if quiet or not sys.stderr.isatty():
        printed_stages: set[str] = set()

        def line(stage: str, _done: int, _total: int) -> None:
            if not quiet and stage not in printed_stages:
                printed_stages.add(stage)
                console.print(printable(f"{label}: {stage}"), highlight=False, markup=False)

        yield line
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(label, total=None)

        def draw(stage: str, done: int, total: int) -> None:
            bars.update(task, description=printable(f"{label}: {stage}"), completed=done, total=total or None)

        yield draw
