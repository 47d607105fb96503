"""A full disk or missing rights, recognized whichever library reports it: by number, or by its words."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from retail_core.errors import DependencyError, InputError, RetailError

_FEW_BYTES = 20_000_000
_FULL_NUMBERS = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = re.compile(
    r"No space left on device|disk is full|Disk quota exceeded|OutOfDiskSpace|os error (28|122)\b"
    r"|out of disk space|over your space quota",
    re.IGNORECASE,
)
_DENIED_NUMBERS = {errno.EACCES, errno.EPERM, errno.EROFS}
_DENIED_WORDS = re.compile(
    r"Permission denied|Read-only file system|readonly database|unable to open database file"
    r"|os error (13|30)\b",
    re.IGNORECASE,
)


def full_disk_text(text: str) -> bool:
    """Whether a message of a library means that a disk is full.

    >>> full_disk_text("(sqlite3.OperationalError) database or disk is full")
    True
    """
    return _FULL_WORDS.search(text) is not None


def full_disk(place: Path) -> DependencyError:
    """The error to raise where a program that serves us cannot write to `place`."""
    return DependencyError(
        f"The disk is full: {place} cannot be written.",
        remedy="free space there, or move the home to a larger disk; then run the command again.",
    )


def has_space(place: Path) -> bool:
    """Whether a disk has so much left that a program which failed did not fail for lack of it."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free > _FEW_BYTES


def disk_error(error: Exception, home: Path) -> RetailError | None:
    """The error for a full disk or missing rights that `error` or one of its causes reports; else None.

    One of our own errors keeps its class, and with it its exit code. An `InputError` about missing rights has
    the better remedy already.

    Args:
        error: raised anywhere.
        home: named where the cause has no file.
    """
    for cause in _causes(error):
        if _reports(cause, _FULL_NUMBERS, _FULL_WORDS):
            return _named(error, "The disk is full", _place(cause, home), full_disk(home).remedy)
        if _reports(cause, _DENIED_NUMBERS, _DENIED_WORDS) and not isinstance(error, InputError):
            remedy = (
                "give this user the right to read and write there (chown, chmod), or name another "
                "folder (RETAIL_HOME sets the data folder)."
            )
            return _named(error, "Rights are missing", _place(cause, home), remedy)
    return None


def _named(error: Exception, kind: str, place: str, remedy: str) -> RetailError:
    if not isinstance(error, RetailError):
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        return InputError(f"{kind}: {place} cannot be read or written ({reason}).", remedy=remedy)
    if kind in error.message:
        return error
    return type(error)(f"{kind}: {error.message}", remedy=remedy)


def _reports(cause: BaseException, numbers: set[int], words: re.Pattern[str]) -> bool:
    if isinstance(cause, RetailError):
        return False  # it may quote a value of the user; the error that it translates is its cause
    if isinstance(cause, OSError) and cause.errno is not None:
        return cause.errno in numbers
    return words.search(str(cause)) is not None


def _place(cause: BaseException, home: Path) -> str:
    return str(getattr(cause, "filename", None) or f"a file below {home}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it was raised from or while handling, the newest first."""
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
