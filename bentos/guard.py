"""What every request passes before anything else: key, size, and errors in one shape."""

from __future__ import annotations

import hmac
import ipaddress
import json
import logging
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.problems import MEDIA_TYPE, Problem

OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/docs", "/openapi.json"})
OPEN_PREFIX = "/docs/"
JSON_LIMIT_BYTES = 16 * 1024 * 1024
UPLOAD_PREFIX = "/score_batch"
MULTIPART_OVERHEAD_BYTES = 64 * 1024

KEPT = frozenset({b"allow"})
"""Headers of a rewritten error answer that its status asks for."""

Headers = Sequence[tuple[bytes, bytes]]

log = logging.getLogger("bentoml.serve")


class _BodyTooLarge(Exception):  # noqa: N818 - never leaves this module
    """Raised from `receive` when the client sends more than it may."""


class Guard:
    """ASGI middleware over our routes and BentoML's alike.

    Checks `X-API-Key` in constant time (without keys only the loopback may ask), bounds bodies, and
    turns every error answer that is not one yet into a problem document; no stack trace leaves.

    Args:
        app: the application behind.
        keys: accepted API keys.
        upload_bytes: limit of a file sent to `/score_batch`.
    """

    def __init__(self, app: ASGIApp, keys: tuple[str, ...], upload_bytes: int) -> None:
        self.app = app
        self.keys = tuple(key.encode() for key in keys)
        self.upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        limit = self._limit(scope["path"])
        problem = self._forbidden(scope, headers) or _too_large_ahead(headers, limit)
        if problem is not None:
            await problem.response()(scope, receive, send)
            return
        await _Exchange(limit, receive, send).run(self.app, scope)

    def _limit(self, path: str) -> int:
        if path.startswith(UPLOAD_PREFIX):
            return self.upload_bytes + MULTIPART_OVERHEAD_BYTES
        return JSON_LIMIT_BYTES

    def _forbidden(self, scope: Scope, headers: dict[bytes, bytes]) -> Problem | None:
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        if not self.keys:
            if _is_loopback(scope):
                return None
            return Problem(403, "loopback-only", "Without RETAIL_API_KEYS only this machine may ask.")
        given = headers.get(b"x-api-key", b"")
        matches = [hmac.compare_digest(given, key) for key in self.keys]
        if any(matches):
            return None
        return Problem(401, "api-key", "Send a valid key in the header X-API-Key.")


def _is_loopback(scope: Scope) -> bool:
    client = scope.get("client")
    if not client or not client[0]:
        return True  # a Unix socket
    try:
        return ipaddress.ip_address(client[0]).is_loopback
    except ValueError:
        return False


def _too_large(limit: int) -> Problem:
    return Problem(413, "too-large", f"The body is larger than the {limit // 1024} KiB this route takes.")


def _too_large_ahead(headers: dict[bytes, bytes], limit: int) -> Problem | None:
    length = headers.get(b"content-length", b"0")
    return _too_large(limit) if length.isdigit() and int(length) > limit else None


class _Exchange:
    """One request and its answer: counts the body, holds back and rewrites error answers."""

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self.limit = limit
        self.receive = receive
        self.send = send
        self.received = 0
        self.overrun = False
        self.started = False
        self.held: Message | None = None
        self.body = b""

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application; whatever escapes it becomes a 500 without a trace (or a 413)."""
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            if self.started:
                raise
            if not self.overrun:
                log.exception("%s %s failed", scope["method"], scope["path"])
            unexpected = Problem(500, "unexpected", "The service failed; its log says why.")
            await self._answer(_too_large(self.limit) if self.overrun else unexpected)

    async def _receive(self) -> Message:
        message = await self.receive()
        self.received += len(message.get("body", b""))
        if self.received > self.limit:
            self.overrun = True
            raise _BodyTooLarge
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _needs_rewriting(message):
            self.held = message
            return
        if self.held is None:
            self.started = True
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if not message.get("more_body", False):
            status = self.held["status"]
            problem = _too_large(self.limit) if self.overrun else _translated(status, self.body)
            await self._answer(problem, [pair for pair in self.held["headers"] if pair[0].lower() in KEPT])

    async def _answer(self, problem: Problem, kept: Headers = ()) -> None:
        self.started = True
        response = problem.response()
        headers = [*response.raw_headers, *kept]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": response.body})


def _needs_rewriting(message: Message) -> bool:
    if message["status"] < 400:
        return False
    headers = dict(message.get("headers", []))
    return not headers.get(b"content-type", b"").startswith(MEDIA_TYPE.encode())


_KINDS = {400: "invalid-request", 404: "not-found", 405: "method", 504: "too-slow"}


def _translated(status: int, body: bytes) -> Problem:
    """BentoML's and Starlette's own error bodies, as a problem."""
    try:
        said = json.loads(body)
    except ValueError:
        said = body.decode("utf-8", "replace").strip()
    if isinstance(said, dict):
        parts = [str(said.get("error", "")), *_details(said.get("detail"))]
        said = "; ".join(part for part in parts if part)
    kind = _KINDS.get(status, "unexpected" if status >= 500 else "refused")
    return Problem(status, kind, str(said) or "No further detail.", retry=status == 503)


def _details(detail: object) -> list[str]:
    if not isinstance(detail, list):
        return [str(detail)] if detail else []
    return [
        ".".join(str(part) for part in item.get("loc", ())) + ": " + str(item.get("msg", ""))
        for item in detail
        if isinstance(item, dict)
    ]
