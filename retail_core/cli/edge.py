"""Error handling of every command: an error becomes one line, one JSON object and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from typer.exceptions import Abort, TyperException

from retail_core.cli.output import emit_error, printable
from retail_core.disk_space import disk_error
from retail_core.errors import InputError, RetailError
from retail_core.settings import Settings, load_settings

INTERRUPTED = 130
_MACHINE_ERRORS = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EFBIG}


def run_with_exit_code(
    app: Callable[[], object], to_user_error: Callable[[Exception], RetailError | None]
) -> None:
    """Run `app`. Exit codes: 0 done, 1 user error, 2 usage error, 3 a dependency is unreachable.

    Args:
        app: a command that reads `sys.argv`.
        to_user_error: the error as one with a remedy; None where it is a bug.
    """
    try:
        app()
    except SystemExit as end:
        _report_exit(end)
        raise
    except Exception as error:
        user_error = to_user_error(error)
        if user_error is None:
            emit_error(
                f"Unexpected {type(error).__name__}: {error}", "report it together with the output on stderr."
            )
            raise
        typer.echo(printable(f"error: {user_error}"), err=True)
        emit_error(user_error.message, user_error.remedy)
        sys.exit(user_error.exit_code)


def user_error_of(error: Exception) -> RetailError | None:
    """Our own errors, failures of MongoDB, and a full or unwritable disk with a remedy; else None."""
    if type(error).__module__.startswith("pymongo"):
        from retail_core.store.mongo.server_errors import known_mongodb_error

        return known_mongodb_error(load_settings(), error)
    disk_failure = disk_error(error, _home())
    if disk_failure is not None:
        return disk_failure
    if isinstance(error, RetailError):
        return error
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
        return InputError(
            f"{error.filename or 'A file'} cannot be read or written: {error.strerror}.",
            remedy="use a writable folder (RETAIL_HOME sets the data folder).",
        )
    return None


def _home() -> Path:
    """The home of the settings; the default one where they are not usable."""
    try:
        return load_settings().home_dir
    except InputError:
        return Settings.model_construct().home_dir


def _report_exit(end: SystemExit) -> None:
    """Print the JSON object of an exit that Typer has already explained on stderr."""
    cause = end.__context__
    if end.code == INTERRUPTED:
        message, remedy = "Stopped.", "run the command again to resume."
        typer.echo(f"{message} Remedy: {remedy}", err=True)
        emit_error(message, remedy)
    elif isinstance(cause, TyperException):
        emit_error(cause.format_message(), "see the command's --help.")
    elif isinstance(cause, Abort):
        emit_error("The confirmation was not answered.", "answer it, or see the command's --help.")
