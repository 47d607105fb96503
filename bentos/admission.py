"""Admission control: how many predictions are in progress, and how much memory their bodies take.

Requests beyond the limit get 503 at once. Otherwise all of them wait for each other until MongoDB's time
limits are exceeded, so that an overloaded service answers nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bentos.correlation import Correlation
from bentos.problems import Problem

MAX_PREDICTIONS = 32
"""Requests of `/predict` in progress, of which the bodies have been received."""

MAX_BODY_BYTES = 128 * 1024 * 1024
"""All large JSON bodies in memory together."""

RETRY_AFTER_SECONDS = "1"
ADMITTED = "retail.admitted"
"""Key of the scope of a prediction that was counted by `Admission`."""


def overloaded(detail: str) -> Problem:
    """503: the service has too much to do."""
    headers = (("Retry-After", RETRY_AFTER_SECONDS),)
    remedy = f"send the request again after {RETRY_AFTER_SECONDS} s, with fewer requests at the same time."
    return Problem(503, "overloaded", detail, headers=headers, remedy=remedy)


class Admission:
    """Counts predictions in progress and refuses those beyond the limit.

    Args:
        limit: predictions in progress at which further ones are refused.

    Attributes:
        active: predictions in progress.
        on_refused: called with the ids of each refused request.
    """

    def __init__(self, limit: int = MAX_PREDICTIONS) -> None:
        self.limit = limit
        self.active = 0
        self.on_refused: Callable[[Correlation], None] = lambda _: None

    def enter(self) -> bool:
        """Count a prediction as in progress; False if it is refused. Each admitted one calls `leave`."""
        if self.active >= self.limit:
            return False
        self.active += 1
        return True

    def leave(self) -> None:
        """An admitted prediction has ended."""
        self.active -= 1

    def problem(self) -> Problem:
        """The answer to a refused request."""
        return overloaded(f"{self.limit} predictions are in progress already.")


class ListTurns:
    """Limits the long lists that are predicted at the same time, and those that wait for that.

    Args:
        running: lists at the same time.
        waiting: lists that may wait.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._turns = asyncio.Semaphore(running)
        self._max_waiting = waiting
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it.

        Raises:
            Problem: 503 if too many lists wait.
        """
        if self._waiting >= self._max_waiting:
            raise overloaded(f"{self._max_waiting} long lists wait already.")
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()


class BodyMemory:
    """Limits the memory of all JSON bodies together."""

    def __init__(self, limit_bytes: int = MAX_BODY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    def take(self, size: int) -> None:
        """Reserve `size` bytes; each taker gives them back.

        Raises:
            Problem: 503 if there is no room; nothing was reserved.
        """
        if self.used_bytes + size > self.limit_bytes:
            raise overloaded("The bodies of other requests take all the memory there is for them.")
        self.used_bytes += size

    def give_back(self, size: int) -> None:
        """Release reserved bytes."""
        self.used_bytes -= size


predictions = Admission()
body_memory = BodyMemory()
