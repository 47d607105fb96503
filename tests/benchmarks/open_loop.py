"""An open-loop load generator: requests are sent at their times, whether or not earlier ones were answered.

A closed loop, such as wrk, waits for a slow server and so hides its overload. This one runs in the process
that calls it, and reports how much of a core it has used itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

TICK_SECONDS = 0.002
MAX_CONNECTIONS = 1_500
"""Requests without a free connection beyond that are not sent, and counted as such."""

DRAIN_SECONDS = 5.0


@dataclass
class OpenLoopResult:
    """What came back.

    Attributes:
        offered: requests due in the time.
        seconds: time in which they were due.
        unsent: of them, those for which there was no connection.
        statuses: responses by status; 0 stands for none.
        milliseconds: by status, from the time a request was due to its complete response.
        without_retry_after: responses 429 and 503 that lack the header.
        cpu_share: processor time of this process by that time.
    """

    offered: int
    seconds: float
    unsent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: dict[int, list[float]] = field(default_factory=dict)
    without_retry_after: int = 0
    cpu_share: float = 0.0

    @property
    def goodput(self) -> float:
        """Responses 200 per second."""
        return self.statuses[200] / self.seconds

    def percentile(self, share: float, *statuses: int) -> float:
        """Milliseconds within which this share of the responses of these statuses came; 0 without any."""
        values = sorted(value for status in statuses for value in self.milliseconds.get(status, ()))
        return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


class _Connection(asyncio.Protocol):
    """Sends one request after another; HTTP/1.1 with a Content-Length in each response."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due = 0.0
        self._response = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> bool:
        """Send a request; False if the connection is closed."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._due, self._response = due, b""
        self._transport.write(request)
        return True

    def data_received(self, data: bytes) -> None:
        self._response += data
        head, separator, body = self._response.partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        start = lowered.index(b"content-length: ") + 16
        if len(body) < int(lowered[start : start + 10].split(b"\r")[0]):
            return
        due, self._due = self._due, 0.0
        self._load.answered(self, int(head[9:12]), due, b"\r\nretry-after:" in lowered)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._due:
            self._load.answered(None, 0, self._due, True)


class _Load:
    def __init__(self, port: int, requests: Sequence[bytes], result: OpenLoopResult) -> None:
        self._port, self._requests, self._result = port, requests, result
        self._idle: deque[_Connection] = deque()
        self._opened = 0
        self.pending = 0

    def answered(
        self, connection: _Connection | None, status: int, due: float, has_retry_after: bool
    ) -> None:
        """Count a response; the connection is free again."""
        result = self._result
        self.pending -= 1
        result.statuses[status] += 1
        result.milliseconds.setdefault(status, []).append((time.perf_counter() - due) * 1000)
        result.without_retry_after += status in (429, 503) and not has_retry_after
        if connection is None:
            self._opened -= 1
        else:
            self._idle.append(connection)

    def send(self, number: int, due: float) -> None:
        """Send the request of this number on a free connection, or on a new one."""
        request = self._requests[number % len(self._requests)]
        while self._idle:
            if self._try(request, due):
                return
        if self._opened >= MAX_CONNECTIONS:
            self._result.unsent += 1
            return
        self._opened += 1
        self.pending += 1
        asyncio.get_running_loop().create_task(self._open(request, due))

    def _try(self, request: bytes, due: float) -> bool:
        if self._idle.pop().send(request, due):
            self.pending += 1
            return True
        self._opened -= 1
        return False

    async def _open(self, request: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)
        except OSError:
            self.answered(None, 0, due, True)
        else:
            connection.send(request, due)


def open_loop(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> OpenLoopResult:
    """Send `rate` of the requests per second, in turn, to a port of this machine."""

    async def run() -> OpenLoopResult:
        result = OpenLoopResult(int(rate * seconds), seconds)
        load = _Load(port, requests, result)
        started, cpu = time.perf_counter(), time.process_time()
        sent = 0
        while sent < result.offered:
            due_count = min(result.offered, int((time.perf_counter() - started) * rate) + 1)
            while sent < due_count:
                load.send(sent, started + sent / rate)
                sent += 1
            await asyncio.sleep(TICK_SECONDS)
        result.cpu_share = (time.process_time() - cpu) / (time.perf_counter() - started)
        deadline = time.perf_counter() + DRAIN_SECONDS
        while load.pending and time.perf_counter() < deadline:
            await asyncio.sleep(TICK_SECONDS)
        result.statuses[0] += load.pending
        return result

    return uvloop.run(run())


def http_request(path: str, body: bytes) -> bytes:
    """A POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
