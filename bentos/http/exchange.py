"""One HTTP request and its response: limits the body, gives errors the one shape.

BentoML and Starlette write their errors in shapes of their own; here they become problem documents.
"""

from __future__ import annotations

import json
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.admission import body_memory
from bentos.correlation import Correlation
from bentos.http.guard import is_upload, too_large
from bentos.problems import MEDIA_TYPE, Headers, Problem, unexpected

FORWARDED_HEADERS = frozenset({b"allow"})
"""Headers of an error response that its problem document keeps."""

NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Header of every response: browsers believe its content type."""

log = logging.getLogger("bentoml.serve")


CLIENT_GONE = 499
"""Status in metrics and logs of a request whose client has left before its body was complete."""


class ClientGoneError(Exception):
    """The client has left before the body was complete."""


class _RefusedBody(Exception):  # noqa: N818 - never leaves this module
    """Raised from `receive` when the body is refused."""


class Exchange:
    """Wraps `receive` and `send` of one request.

    Attributes:
        ids: request id and trace, which every response has as headers.
        status: status of the response; 0 before it begins.
        is_client_gone: whether the client has left before its body was complete.
        problem_kind: kind of the problem that was sent, if one was.
    """

    def __init__(self, limit_bytes: int, ids: Correlation, receive: Receive, send: Send) -> None:
        self.ids = ids
        self.limit_bytes = limit_bytes
        self.receive = receive
        self.send = send
        self.received_bytes = 0
        self.refusal: Problem | None = None
        self.is_client_gone = False
        self.status = 0
        self.problem_kind = ""
        self._taken_bytes = 0
        self._is_complete = False
        self._is_held_in_memory = True
        self._error_start: Message | None = None
        self._error_body = b""

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application; an exception that escapes it becomes a 500, or the refusal of the body."""
        self._is_held_in_memory = not is_upload(scope)
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            if self.status:
                raise
            if self.is_client_gone:
                self.status = CLIENT_GONE
                return
            if self.refusal is None:
                log.exception("%s %s failed, request %s", scope["method"], scope["path"], self.ids.request_id)
            await self.send_problem(self.refusal or unexpected())

    async def send_response(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Send a complete response."""
        self.status = status
        length = (b"content-length", str(len(body)).encode())
        all_headers = [*headers, NOSNIFF, *self.ids.headers(), length]
        await self.send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self.send({"type": "http.response.body", "body": body})

    async def send_problem(self, problem: Problem, further_headers: Headers = ()) -> None:
        """Send a problem document."""
        self.problem_kind = problem.kind
        headers = [*problem.raw_headers(), *further_headers]
        await self.send_response(problem.status, problem.encoded(self.ids.request_id), *headers)

    def take_memory(self, size: int) -> None:
        """Reserve memory for a part of the body.

        Raises:
            Problem: 503 if the bodies of all requests take too much.
        """
        body_memory.take(size)
        self._taken_bytes += size

    def give_back_memory(self) -> None:
        """Release what was reserved."""
        body_memory.give_back(self._taken_bytes)
        self._taken_bytes = 0

    async def _receive(self) -> Message:
        message = await self.receive()
        self.is_client_gone |= message["type"] == "http.disconnect" and not self._is_complete
        self._is_complete |= message["type"] == "http.request" and not message.get("more_body", False)
        size = len(message.get("body", b""))
        self.received_bytes += size
        if self.received_bytes > self.limit_bytes:
            self.refusal = too_large(self.limit_bytes)
        elif self._is_held_in_memory and message.get("more_body", False):
            self._take_for_body(size)
        if self.refusal is not None:
            raise _RefusedBody
        return message

    def _take_for_body(self, size: int) -> None:
        try:
            self.take_memory(size)
        except Problem as problem:
            self.refusal = problem

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_foreign_error(message):
            self._error_start = message
            return
        if self._error_start is None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                headers = [*message.get("headers", ()), NOSNIFF, *self.ids.headers()]
                message = {**message, "headers": headers}
            await self.send(message)
            return
        self._error_body += message.get("body", b"")
        if not message.get("more_body", False):
            problem = self.refusal or _as_problem(self._error_start["status"], self._error_body)
            headers = self._error_start["headers"]
            forwarded = [pair for pair in headers if pair[0].lower() in FORWARDED_HEADERS]
            await self.send_problem(problem, forwarded)


def _is_foreign_error(start: Message) -> bool:
    if start["status"] < 400:
        return False
    headers = dict(start.get("headers", []))
    return not headers.get(b"content-type", b"").startswith(MEDIA_TYPE.encode())


_KINDS = {400: "invalid-request", 404: "not-found", 405: "method", 422: "invalid-request", 504: "too-slow"}


def _as_problem(status: int, body: bytes) -> Problem:
    """The problem for an error body of BentoML or Starlette."""
    try:
        content = json.loads(body)
    except ValueError:
        content = body.decode("utf-8", "replace").strip()
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict):
        sentences = [str(content.get("error", "")), *_details(content.get("detail"))]
        content = "; ".join(sentence for sentence in sentences if sentence)
    kind = _KINDS.get(status, "unexpected" if status >= 500 else "refused")
    return Problem(status, kind, str(content) or "No further detail.", retry=status == 503)


def _details(detail: object) -> list[str]:
    """One sentence per error of a Pydantic error list; a plain text as the only sentence."""
    if not isinstance(detail, list):
        return [str(detail)] if detail else []
    return [
        ".".join(map(str, error.get("loc", ()))) + ": " + str(error.get("msg", ""))
        for error in detail
        if isinstance(error, dict)
    ]
