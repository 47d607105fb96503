"""Read the lake for a training: one version of each table, whatever is synchronized meanwhile.

An erasure deletes the files of all versions at once. What was read until then may contain the user, so it is
read again from the version without the user.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from retail_core.errors import DataError
from retail_core.workspace import Workspace

READ_ATTEMPTS = 3

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def read_pinned(workspace: Workspace, read: Callable[[Workspace], Result]) -> tuple[Workspace, Result]:
    """The workspace with a pinned lake, and what `read` returns for it.

    Args:
        workspace: with the newest version of the lake.
        read: reads the lake of the workspace that it is given; called again after an erasure.

    Raises:
        DataError: users are erased all the time.
        DependencyError: the lake cannot be written.
    """
    for _ in range(READ_ATTEMPTS):
        pinned = workspace.pinned()
        pinned.lake.pin()
        try:
            result = read(pinned)
        except Exception:
            if pinned.lake.is_intact():
                raise
        else:
            if pinned.lake.is_intact():
                return pinned, result
        log.warning("A user was erased while the lake was read; it is read again.")
    raise DataError(
        "Users were erased whenever the lake was read.", remedy="run the command again after the erasures."
    )
