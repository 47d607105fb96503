"""The access log: one line per request; no user, address, query or body."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

import msgspec

from bentos.correlation import Correlation
from bentos.json_logs import ENCODED, log_time

FLUSH_SECONDS = 0.5
MAX_PENDING_LINES = 50_000
"""Lines that may wait to be written; beyond that the oldest are dropped."""

log = logging.getLogger("bentoml.access")


class AccessEntry(msgspec.Struct, frozen=True):
    """One answered request.

    Attributes:
        at: wall clock at the end, seconds since 1970.
        method: HTTP method.
        route: one of the listed routes, or `other`.
        status: HTTP status.
        seconds: time to answer.
        key: name of the API key, `-` without one.
        ids: request id and trace.
    """

    at: float
    method: str
    route: str
    status: int
    seconds: float
    key: str
    ids: Correlation


class AccessLog:
    """Buffers one line per request and writes them together, twice a second.

    Args:
        enabled: whether anything is written.
        as_json: one JSON object per line instead of text.
    """

    def __init__(self, *, enabled: bool, as_json: bool = False) -> None:
        self._enabled = enabled
        self._as_json = as_json
        self._entries: deque[AccessEntry] = deque(maxlen=MAX_PENDING_LINES)

    def add(self, entry: AccessEntry) -> None:
        """Buffer the line of one request."""
        if self._enabled:
            self._entries.append(entry)

    async def run(self) -> None:
        """Flush periodically until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write the buffered lines as one log message."""
        if not self._entries:
            return
        entries = [self._entries.popleft() for _ in range(len(self._entries))]
        line = _json_line if self._as_json else _text_line
        log.info("%s", "\n".join(map(line, entries)), extra={ENCODED: self._as_json})


def _text_line(entry: AccessEntry) -> str:
    milliseconds = f"{entry.seconds * 1000:.1f} ms"
    return f"{entry.method} {entry.route} {entry.status} {milliseconds} {entry.key} {entry.ids.request_id}"


def _json_line(entry: AccessEntry) -> str:
    fields = {
        "time": log_time(entry.at),
        "level": "INFO",
        "logger": log.name,
        "method": entry.method,
        "route": entry.route,
        "status": entry.status,
        "ms": round(entry.seconds * 1000, 1),
        "key": entry.key,
        "request_id": entry.ids.request_id,
        "trace_id": entry.ids.trace_id,
    }
    return msgspec.json.encode(fields).decode()
