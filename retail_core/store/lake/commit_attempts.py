"""Commits that lose against another writer are prepared again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from retail_core.errors import DependencyError
from retail_core.store.lake.location import LakeLocation

ATTEMPTS = 20
"""How often a commit is prepared again because other processes committed meanwhile."""

Result = TypeVar("Result")


class CommitConflict(Exception):  # noqa: N818 - a signal to prepare the commit again, not an error
    """Another process has committed since the table was opened."""


def until_committed(location: LakeLocation, attempt: Callable[[], Result]) -> Result:
    """The result of the first attempt that no other writer forestalls.

    Raises:
        DependencyError: other processes write to the lake all the time.
    """
    for _ in range(ATTEMPTS):
        with suppress(CommitConflict):
            return attempt()
    raise DependencyError(
        f"Other processes write to the lake at {location.url_of('')} all the time.",
        remedy="run the command again when fewer commands run.",
    )
