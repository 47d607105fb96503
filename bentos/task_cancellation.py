"""Cancellation of endless tasks that read or write MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

REPEAT_SECONDS = 0.1


async def cancel_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended.

    Before Python 3.12, `asyncio.wait_for`, which PyMongo uses, may swallow a cancellation, so it is repeated.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=REPEAT_SECONDS)
