"""The access log: which route, how it ended, how long it took. No user, no address, no query, no body."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

EVERY_SECONDS = 0.5
KEPT_LINES = 50_000
"""Lines that may wait to be written; beyond that the oldest go."""

log = logging.getLogger("bentoml.access")


class AccessLog:
    """Collects lines while requests are answered and writes them together, twice a second."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._lines: deque[tuple[str, str, int, float]] = deque(maxlen=KEPT_LINES)

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Remember one request."""
        if self._enabled:
            self._lines.append((method, route, status, seconds))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write what has collected, as one message."""
        if not self._lines:
            return
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        log.info("\n".join(f"{m} {route} {status} {s * 1000:.1f} ms" for m, route, status, s in lines))
