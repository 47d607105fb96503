"""The HTTP server of a worker: uvicorn with time limits for slow clients and early admission of predictions.

uvicorn has no time limit for the head or body of a request, and calls the application as soon as the head is
read. BentoML starts uvicorn and cannot be told of another server, so `bentos.bentoml_patches` replaces it.
"""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from bentos.admission import ADMITTED, overloaded, predictions
from bentos.correlation import Correlation, correlate
from bentos.http.exchange import NOSNIFF
from bentos.problems import Problem
from bentos.supervision import ANSWER_SECONDS, supervisor

HEAD_SECONDS = 10.0
"""From the first byte of a request, or from the connection, until its head is complete."""

BODY_SECONDS = 30.0
MIN_BYTES_PER_SECOND = 16 * 1024
"""A body may take `BODY_SECONDS`, and a second more for each `MIN_BYTES_PER_SECOND` received."""

READER_SECONDS = 60.0
"""A response may make no progress for this long because the client does not read it."""

MAX_CONNECTIONS = 2_000
"""Further connections are answered with 503 and closed; fewer if the process may open fewer files."""

EARLY_BYTES = 48 * 1024
"""A prediction with a larger body is started before the body is complete."""

_HEAD, _BODY, _NEITHER = 1, 2, 0


def too_slow() -> Problem:
    """408: the request did not arrive in time."""
    return Problem(
        408,
        "slow-request",
        f"The head of a request has to arrive within {HEAD_SECONDS:g} s, its body within {BODY_SECONDS:g} s "
        f"and a second for each {MIN_BYTES_PER_SECOND // 1024} KiB.",
        remedy="send the request again over a faster connection, or in several parts.",
    )


class ServiceProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._receiving = _HEAD
        self._received_bytes = 0
        self._since = self._unread_since = self.loop.time()
        self._unread_bytes = 0
        self._held: Any = None

    def connection_made(self, transport: Any) -> None:
        """Refuse the connection if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > connection_limit():
            self._close_with(overloaded("There are too many connections."))

    def data_received(self, data: bytes) -> None:
        """Begin to wait for the rest of a request."""
        if self._receiving == _NEITHER:
            self._receiving, self._since = _HEAD, self.loop.time()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Begin to wait for the body."""
        self._receiving, self._received_bytes = _BODY, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Start a prediction that has a large body: the application limits it."""
        self._received_bytes += len(body)
        super().on_body(body)
        if self._held is not None and self._received_bytes > EARLY_BYTES:
            self._start_held()

    def on_message_complete(self) -> None:
        """Start a prediction if it is admitted."""
        self._receiving = _NEITHER
        super().on_message_complete()
        if self._held is None:
            return
        if predictions.enter():
            self.cycle.scope[ADMITTED] = True  # type: ignore[literal-required]
            self._start_held()
        else:
            self._held = None
            self._refuse(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        is_prediction = cycle.scope["path"] == "/predict" and cycle.scope["method"] == "POST"
        is_received = cycle is not self.cycle or not cycle.more_body
        if is_prediction and not is_received and not cycle.waiting_for_100_continue:
            self._held = app
        else:
            super()._start_asgi_task(cycle, app)

    def _start_held(self) -> None:
        app, self._held = self._held, None
        super()._start_asgi_task(self.cycle, app)

    def _refuse(self, cycle: RequestResponseCycle) -> None:
        """Answer a prediction without calling the application, which costs a tenth of a call."""
        ids = correlate(list(cycle.scope["headers"]))
        predictions.on_refused(ids)
        self.transport.write(_REFUSALS[not cycle.keep_alive].encoded(ids))
        cycle.response_started = cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def close_if_slow(self, now: float) -> None:
        """Close the connection if the client is too slow; `now` is the time of the event loop."""
        if self.transport.is_closing() and not self.transport.get_write_buffer_size():
            return
        if self._reads_too_slowly(now):
            self.transport.abort()
            return
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if self.flow.read_paused or (self._receiving == _HEAD and is_answering):
            self._since = now  # We do not read, for instance because the disk is slow.
        if self._receiving == _HEAD:
            is_late = now - self._since > HEAD_SECONDS
        else:
            seconds = BODY_SECONDS + self._received_bytes / MIN_BYTES_PER_SECOND
            is_late = self._receiving == _BODY and now - self._since > seconds
        if is_late:
            self._close_with(too_slow())

    def _reads_too_slowly(self, now: float) -> bool:
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread_bytes:
            self._unread_bytes, self._unread_since = unread, now
        return now - self._unread_since > READER_SECONDS

    def _close_with(self, problem: Problem) -> None:
        """Send a problem unless a response has begun, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(RawResponse(problem, close=True).encoded(correlate(())))
        self._held = None
        self.transport.close()


class ServiceServer(uvicorn.Server):
    """Closes connections of slow clients, and limits the time of its shutdown."""

    def __init__(self, config: uvicorn.Config) -> None:
        config.http = ServiceProtocol
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = int(ANSWER_SECONDS)
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the answers in progress; without a main process nobody else may accept connections."""
        if os.getppid() != supervisor():
            for listener in sockets or ():
                stop_listening(listener)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 10 == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, ServiceProtocol):
                    connection.close_if_slow(connection.loop.time())
        return await super().on_tick(counter)


def stop_listening(listener: socket.socket) -> None:
    """Refuse new connections in all processes that share the socket."""
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=1)
def connection_limit() -> int:
    """How many connections are accepted; raises the soft limit of open files for them, where possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 2 * MAX_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < files:
        files = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files // 2


class RawResponse:
    """A problem document with its HTTP head, prepared for any request id.

    Args:
        problem: the content.
        close: whether the connection ends.
    """

    def __init__(self, problem: Problem, *, close: bool) -> None:
        pairs = [*problem.raw_headers(), NOSNIFF, *([(b"connection", b"close")] if close else [])]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
        status = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n".encode()
        self._head = status + lines
        self._before, _, self._after = problem.encoded(_ANY_ID).partition(_ANY_ID.encode())

    def encoded(self, ids: Correlation) -> bytes:
        """The bytes of the response to a request with these ids."""
        request_id = ids.request_id.encode()
        length = len(self._before) + len(request_id) + len(self._after)
        return b"%bcontent-length: %d\r\nx-request-id: %b\r\ntraceparent: %b\r\n\r\n%b%b%b" % (
            self._head,
            length,
            request_id,
            ids.traceparent,
            self._before,
            request_id,
            self._after,
        )


_ANY_ID = "-any-"
_REFUSALS = {close: RawResponse(predictions.problem(), close=close) for close in (False, True)}
