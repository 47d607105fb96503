"""The one edge of every command: errors become a line, one JSON object and an exit code here."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import typer
from typer.exceptions import Abort, TyperException

from retail_core.cli.output import emit_error, printable
from retail_core.errors import DependencyError, InputError, RetailError

INTERRUPTED = 130
_OF_THE_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
}


def guarded(app: Callable[[], object], known: Callable[[Exception], RetailError | None]) -> None:
    """Run `app`. Exit codes: 0 done, 1 a user's mistake, 2 usage, 3 a dependency is unreachable.

    Args:
        app: a command that reads `sys.argv`.
        known: an error as one that a person can mend; None where it is a bug.
    """
    try:
        app()
    except SystemExit as end:
        _say_why(end)
        raise
    except Exception as error:
        told = known(error)
        if told is None:
            emit_error(f"Unexpected {type(error).__name__}: {error}", "report it with what stands on stderr.")
            raise
        typer.echo(printable(f"error: {told}"), err=True)
        emit_error(told.message, told.remedy)
        sys.exit(told.exit_code)


def mendable(error: Exception) -> RetailError | None:
    """What any command may meet: our own errors, a lost MongoDB, a full or forbidden disk."""
    if isinstance(error, RetailError):
        return error
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        return InputError(
            f"{error.filename or 'A file'} cannot be read or written: {error.strerror}.",
            remedy="free some space, or name a place that you may use (RETAIL_HOME says where the data are).",
        )
    if type(error).__module__.startswith("pymongo"):
        from pymongo.errors import ConnectionFailure

        if isinstance(error, ConnectionFailure):
            return DependencyError(
                "MongoDB went away while the command ran.", remedy="see `retail doctor`, then run it again."
            )
    return None


def _say_why(end: SystemExit) -> None:
    """Typer has told a person on stderr; the object on stdout is still owed."""
    cause = end.__context__
    if end.code == INTERRUPTED:
        told, remedy = "Stopped.", "run the command again to go on where it was."
        typer.echo(f"{told} Remedy: {remedy}", err=True)
        emit_error(told, remedy)
    elif isinstance(cause, TyperException):
        emit_error(cause.format_message(), "see the command's --help.")
    elif isinstance(cause, Abort):
        emit_error("Nobody answered the question.", "answer it, or see the command's --help.")
