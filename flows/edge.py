"""The edge of a flow run by hand: one result on stdout, one line for an error, the CLI's exit codes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import httpx
import typer
from prefect import State

from retail_core.cli.edge import run_with_exit_code, user_error_of
from retail_core.cli.output import JsonFlag, emit
from retail_core.errors import DependencyError, RetailError
from retail_core.settings import load_settings
from retail_core.workspace import open_workspace

AsOf = Annotated[str | None, typer.Option("--as-of", help="ISO 8601; default: from the newest event.")]

__all__ = ["AsOf", "JsonFlag", "finish", "instant", "run"]


def run(command: Callable[..., None]) -> None:
    """Run a module's command; 0 done, 1 a user's mistake, 2 usage, 3 a dependency is unreachable."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    run_with_exit_code(app, lambda error: user_error_of(error) or _prefect_unreachable(error))


def _prefect_unreachable(error: Exception) -> RetailError | None:
    said = str(error)
    if isinstance(error, httpx.HTTPError) or "Prefect API" in said or "Failed to reach API" in said:
        return DependencyError(
            f"Prefect cannot be reached or started: {said.splitlines()[0] if said else type(error).__name__}",
            remedy="correct PREFECT_API_URL, or unset it to let the flow start a server of its own.",
        )
    return None


def finish(state: State[Any], *, title: str, json_output: bool) -> None:
    """Print what the flow returned.

    Raises:
        Exception: what ended the flow.
    """
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    emit(result, json_output=json_output, title=title)


def instant(as_of: str | None, *, midnight: bool) -> datetime:
    """`as_of` read in the shop's zone; else the newest event's time, or the last midnight before it, UTC."""
    with open_workspace(load_settings()) as work:
        return work.resolve_as_of(as_of, midnight=midnight)
