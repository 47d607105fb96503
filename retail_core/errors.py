"""Errors that are shown to users, each with a message and a remedy.

The packages below the edges raise these; the command line, the flows and the HTTP service turn them into one
line, an exit code or a problem document. Any other exception that reaches an edge is a bug.
"""

from __future__ import annotations


class RetailError(Exception):
    """Base class of the errors that are shown to users.

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
    """An input (a file, an argument, a mapping) is invalid."""


class DataError(RetailError):
    """The stored data are insufficient for the request: no purchases, too few buyers, nothing new."""


class IntegrityError(RetailError):
    """Counts do not add up or a stored hash does not match; nothing was committed."""


class DependencyError(RetailError):
    """MongoDB, MLflow, Prefect or the API is unreachable or cannot be started."""

    exit_code = 3


class AccessError(DependencyError):
    """A dependency refuses the credentials, or they lack a right: trying again does not help."""


class LeakageError(DataError):
    """A column reveals the label, or a model is too accurate to be plausible."""
