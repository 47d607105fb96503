"""The access log: method, route, status, duration, key of each request; no user, address, query or body."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

FLUSH_SECONDS = 0.5
MAX_PENDING_LINES = 50_000
"""Lines that may wait to be written; beyond that the oldest are dropped."""

log = logging.getLogger("bentoml.access")


class AccessLog:
    """Buffers one line per request and writes them together, twice a second."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lines: deque[tuple[str, str, int, float, str]] = deque(maxlen=MAX_PENDING_LINES)

    def add(self, method: str, route: str, status: int, seconds: float, key: str) -> None:
        """Buffer the line of one request; `key` is the name of its API key, `-` without one."""
        if self._enabled:
            self._lines.append((method, route, status, seconds, key))

    async def run(self) -> None:
        """Flush periodically until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write the buffered lines as one log message."""
        if not self._lines:
            return
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        log.info(
            "\n".join(f"{m} {route} {status} {s * 1000:.1f} ms {key}" for m, route, status, s, key in lines)
        )
