"""Errors that reach a person. Each says what is wrong, where, and what to do about it.

Everything below the edges raises one of these; the CLI, the flows and the HTTP service turn it into
one line, an exit code or a problem document. Anything else that escapes is a bug.
"""

from __future__ import annotations


class RetailError(Exception):
    """Base of every error a person may cause or see.

    Args:
        message: what is wrong and where, in one sentence.
        remedy: what to do about it, in one sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} Remedy: {self.remedy}"


class InputError(RetailError):
    """The input (a file, an argument, a mapping) cannot be used as it is."""


class DataError(RetailError):
    """The stored data do not allow what was asked: no purchases, too few buyers, nothing new."""


class IntegrityError(RetailError):
    """Counts do not add up or a stored hash does not match. Nothing was committed."""


class DependencyError(RetailError):
    """MongoDB, MLflow, Prefect or the API is unreachable or cannot be started."""

    exit_code = 3


class LeakageError(DataError):
    """A column gives the answer away, or a whole model is too good to be true."""
