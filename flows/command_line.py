"""Command line of `python -m flows.NAME`, with the output and the exit codes of `retail`."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import typer
from prefect import State

from retail_core.cli.edge import run_with_exit_code, user_error_of
from retail_core.cli.model_commands import AsOf
from retail_core.cli.output import JsonFlag, emit
from retail_core.disk_space import full_disk, has_space
from retail_core.errors import DependencyError, RetailError
from retail_core.settings import load_settings
from retail_core.store.mongo.connection import open_store
from retail_core.workspace import Workspace

__all__ = ["AsOf", "JsonFlag", "print_result", "resolve_as_of", "resolve_list_cutoff", "run_command"]


def run_command(command: Callable[..., None]) -> None:
    """Run a flow's command. Exit codes: 0 done, 1 user error, 2 usage, 3 a dependency is unreachable."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(command)
    run_with_exit_code(app, lambda error: user_error_of(error) or _prefect_unreachable(error))


def _prefect_unreachable(error: Exception) -> RetailError | None:
    message = str(error)
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}:
        return DependencyError(
            "Prefect refused the credentials.",
            remedy="correct PREFECT_API_AUTH_STRING (user:password), or PREFECT_API_KEY of Prefect Cloud.",
        )
    if isinstance(error, httpx.HTTPError) or "Prefect API" in message or "Failed to reach API" in message:
        prefect_home = Path(os.environ.get("PREFECT_HOME", load_settings().home_dir)).expanduser()
        if not has_space(prefect_home):
            return full_disk(prefect_home)
        first_line = message.splitlines()[0] if message else type(error).__name__
        return DependencyError(
            f"Prefect cannot be reached or started: {first_line}",
            remedy="correct PREFECT_API_URL, or unset it to let the flow start a server of its own.",
        )
    return None


def print_result(state: State[Any], *, title: str, json_output: bool) -> None:
    """Print the report that a flow returned.

    Raises:
        Exception: the error that ended the flow.
    """
    result: Any = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    emit(result, json_output=json_output, title=title)


def resolve_as_of(as_of: str | None, *, midnight: bool) -> datetime:
    """The cut-off of the command line, see `Workspace.resolve_as_of`.

    The lake is needed, and synchronized, only for the default.
    """
    with open_store(load_settings()) as store:
        workspace = Workspace(store) if as_of else Workspace.synchronized(store)
        return workspace.resolve_as_of(as_of, midnight=midnight)


def resolve_list_cutoff(as_of: str | None) -> datetime:
    """The cut-off of a list, see `Workspace.list_cutoff`; the lake is synchronized for the default."""
    with open_store(load_settings()) as store:
        workspace = Workspace(store) if as_of else Workspace.synchronized(store)
        return workspace.list_cutoff(as_of)
