"""What every request passes before anything else: key, size, pace, and errors in one shape."""

from __future__ import annotations

import hmac
import json
import logging
import math
from collections.abc import Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos import strangers
from bentos.http.upload_form import UploadForm, form_boundary, with_canonical_media_type
from bentos.limits import Limits
from bentos.problems import MEDIA_TYPE, Problem, split_error_text

OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/docs", "/openapi.json"})
OPEN_PREFIX = "/docs/"
JSON_LIMIT_BYTES = 16 * 1024 * 1024
UPLOAD_PREFIX = "/score_batch"
JSON_PATHS = frozenset({"/predict", "/events"})
FORM_PATHS = frozenset({UPLOAD_PREFIX, f"{UPLOAD_PREFIX}/submit"})
MULTIPART_OVERHEAD_BYTES = 64 * 1024

_READ = frozenset({b"x-api-key", b"content-length", b"content-type", b"host", b"origin"})

KEPT = frozenset({b"allow"})
"""Headers of a rewritten error answer that its status asks for."""

Headers = Sequence[tuple[bytes, bytes]]

log = logging.getLogger("bentoml.serve")


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Raised from `receive` when the client sends what it may not."""


class Guard:
    """Who may ask, how much and how often.

    Keys are compared in constant time; without keys only this machine may ask (see `strangers`).

    Args:
        keys: accepted API keys, sent as `X-API-Key`.
        upload_bytes: limit of a file sent to `/score_batch`.
        rate: requests a second that each key may make; 0 for as many as it likes.
    """

    def __init__(self, keys: tuple[str, ...], upload_bytes: int, rate: float = 0.0) -> None:
        self.keys = tuple(key.encode() for key in keys)
        self.upload_bytes = upload_bytes
        self.limits = Limits(rate)

    def limit(self, path: str) -> int:
        """Bytes that a body sent to `path` may have."""
        if path.startswith(UPLOAD_PREFIX):
            return self.upload_bytes + MULTIPART_OVERHEAD_BYTES
        return JSON_LIMIT_BYTES

    def objection(self, scope: Scope, now: float) -> Problem | None:
        """Why the request may not pass, judged by its head at `now` (seconds of any clock); or None."""
        head = {name: value for name, value in scope["headers"] if name in _READ}
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return None
        given = head.get(b"x-api-key", b"")
        forbidden = self._forbidden(given) if self.keys else strangers.objection(scope, head)
        if forbidden is not None:
            return forbidden
        limit, length = self.limit(path), head.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return too_large(limit)
        wait = self.limits.wait(given, now)
        return _too_fast(self.limits.rate, wait) if wait else _wrong_media_type(scope, head)

    def _forbidden(self, given: bytes) -> Problem | None:
        matches = [hmac.compare_digest(given, key) for key in self.keys]
        if any(matches):
            return None
        return Problem(401, "api-key", "Send a valid key in the header X-API-Key.")


def too_large(limit: int) -> Problem:
    """413: more than `limit` bytes."""
    return Problem(413, "too-large", f"The body is larger than the {limit // 1024} KiB this route takes.")


def _too_fast(rate: float, wait: float) -> Problem:
    after = str(math.ceil(wait))
    detail = f"A key may ask {rate:g} times a second on average; slow down."
    return Problem(429, "too-fast", detail, headers=(("Retry-After", after),))


class Exchange:
    """One request and its answer: counts the body, holds back and rewrites error answers.

    Attributes:
        status: of the answer; 0 before it begins.
        problem: kind of the problem that was answered, if it was one.
    """

    def __init__(self, limit: int, receive: Receive, send: Send) -> None:
        self.limit = limit
        self.receive = receive
        self.send = send
        self.received = 0
        self.refusal: Problem | None = None
        self.status = 0
        self.problem = ""
        self.form: UploadForm | None = None
        self.first: Message | None = None
        self.held: Message | None = None
        self.body = b""

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application; whatever escapes it becomes a 500 without a trace, or what was refused."""
        if is_upload(scope):
            self.form = UploadForm(form_boundary(scope["headers"]))
            scope = {**scope, "headers": with_canonical_media_type(scope["headers"])}
        try:
            if self.form is not None:
                self.first = await self._receive()
            await app(scope, self._receive, self._send)
        except Exception:
            if self.status:
                raise
            if self.refusal is None:
                log.exception("%s %s failed", scope["method"], scope["path"])
            unexpected = Problem(500, "unexpected", "The service failed; its log says why.")
            await self.answer(self.refusal or unexpected)

    async def reply(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Send a whole answer."""
        self.status = status
        every = [*headers, (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": every})
        await self.send({"type": "http.response.body", "body": body})

    async def answer(self, problem: Problem, kept: Headers = ()) -> None:
        """Send a problem document."""
        self.problem = problem.kind
        await self.reply(problem.status, problem.encoded(), *problem.raw_headers(), *kept)

    async def _receive(self) -> Message:
        if self.first is not None:
            message, self.first = self.first, None
            return message
        message = await self.receive()
        body = message.get("body", b"")
        self.received += len(body)
        if self.received > self.limit:
            self.refusal = too_large(self.limit)
        elif self.form is not None and message["type"] == "http.request":
            self._check(self.form, body, last=not message.get("more_body", False))
        if self.refusal is not None:
            raise _Refused
        return message

    def _check(self, form: UploadForm, body: bytes, *, last: bool) -> None:
        try:
            form.feed(body, last=last)
        except Problem as problem:
            self.refusal = problem

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _needs_rewriting(message):
            self.held = message
            return
        if self.held is None:
            self.status = message.get("status", self.status)
            await self.send(message)
            return
        self.body += message.get("body", b"")
        if not message.get("more_body", False):
            status = self.held["status"]
            problem = self.refusal or _translated(status, self.body)
            await self.answer(problem, [pair for pair in self.held["headers"] if pair[0].lower() in KEPT])


def is_upload(scope: Scope) -> bool:
    """Whether the request sends a file."""
    return scope["method"] == "POST" and scope["path"] in FORM_PATHS


def _wrong_media_type(scope: Scope, head: Mapping[bytes, bytes]) -> Problem | None:
    """415 where JSON is sent as another media type, 422 where an upload is not a multipart form."""
    if is_upload(scope):
        try:
            form_boundary(scope["headers"])
        except Problem as problem:
            return problem
    kind = head.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if scope["method"] == "POST" and scope["path"] in JSON_PATHS and kind not in {b"", b"application/json"}:
        return Problem(415, "not-json", "Send JSON, and say so: content-type: application/json.")
    return None


def _needs_rewriting(message: Message) -> bool:
    if message["status"] < 400:
        return False
    headers = dict(message.get("headers", []))
    return not headers.get(b"content-type", b"").startswith(MEDIA_TYPE.encode())


_KINDS = {400: "invalid-request", 422: "invalid-request", 404: "not-found", 405: "method", 504: "too-slow"}


def _translated(status: int, body: bytes) -> Problem:
    """BentoML's and Starlette's own error bodies, as a problem."""
    try:
        said = json.loads(body)
    except ValueError:
        said = body.decode("utf-8", "replace").strip()
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, dict):
        parts = [str(said.get("error", "")), *_details(said.get("detail"))]
        said = "; ".join(part for part in parts if part)
    kind = _KINDS.get(status, "unexpected" if status >= 500 else "refused")
    detail, remedy = split_error_text(str(said))
    return Problem(status, kind, detail or "No further detail.", retry=status == 503, remedy=remedy)


def _details(detail: object) -> list[str]:
    if not isinstance(detail, list):
        return [str(detail)] if detail else []
    return [
        ".".join(str(part) for part in item.get("loc", ())) + ": " + str(item.get("msg", ""))
        for item in detail
        if isinstance(item, dict)
    ]
