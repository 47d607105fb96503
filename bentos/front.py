"""The first thing a request meets: its key, its size, its pace; then the shortest way to an answer."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos import intake
from bentos.access import AccessLog
from bentos.api import Api
from bentos.guard import JSON_LIMIT_BYTES, Exchange, Guard, too_large
from bentos.meters import Meters
from bentos.problems import Problem
from bentos.views import item_error
from bentos.wire import Answer

OWN_ROUTES = frozenset({"/predict", "/events", "/model", "/model/reload", "/docs", "/openapi.json"})
KNOWN_ROUTES = OWN_ROUTES | {
    *("/livez", "/readyz", "/healthz", "/metrics", "/score_batch"),
    *(f"/score_batch/{step}" for step in ("submit", "status", "get", "cancel")),
}
WITHHELD = frozenset({"/score_batch/retry"})
"""Routes of BentoML that are not found here: it would have to keep whole uploads to try them again."""

DOCS_PREFIX = "/docs/"
_JSON = (b"content-type", b"application/json")

log = logging.getLogger("bentoml.serve")


class Front:
    """ASGI application before all others, BentoML's middlewares included.

    Those cost a third of a short request and hold a timer for each one until its time-out, an hour for
    our uploads. So `/predict` is answered here, our other routes by `own`, and only BentoML's by `behind`.

    Args:
        own: the application with our routes.
        guard: what a request must pass.
        access: where requests are noted.
    """

    def __init__(self, own: ASGIApp, guard: Guard, access: AccessLog) -> None:
        self.own = own
        self.guard = guard
        self.access = access
        self.meters = Meters()
        self.behind: ASGIApp | None = None
        self.api: Api | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._behind(scope, receive, send)
            return
        started = time.perf_counter()
        exchange = Exchange(self.guard.limit(scope["path"]), receive, send)
        problem = self.guard.objection(scope, started)
        if problem is not None:
            await exchange.answer(problem)
        elif scope["path"] == "/predict" and self.api is not None:
            await self._predict(self.api, scope, exchange)
        else:
            # BentoML writes the headers of an upload to its file of tasks.
            headers = [pair for pair in scope["headers"] if pair[0] != b"x-api-key"]
            await exchange.run(self._way(scope["path"]), {**scope, "headers": headers})
        self._note(scope, exchange, time.perf_counter() - started)

    def _way(self, path: str) -> ASGIApp:
        is_own = path in OWN_ROUTES or path in WITHHELD or path.startswith(DOCS_PREFIX)
        return self.own if is_own else self._behind

    async def _behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.behind is None:
            raise RuntimeError("the service has not started")
        await self.behind(scope, receive, send)

    async def _predict(self, api: Api, scope: Scope, exchange: Exchange) -> None:
        try:
            await exchange.reply(200, await _answers(api, await _body(scope, exchange.receive)), _JSON)
        except Problem as problem:
            await exchange.answer(problem)
        except Exception:
            if exchange.status:
                raise
            log.exception("POST /predict failed")
            await exchange.answer(Problem(500, "unexpected", "The service failed; its log says why."))

    def _note(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        route = scope["path"] if scope["path"] in KNOWN_ROUTES else "other"
        self.meters.request(route, exchange.status, seconds)
        if exchange.problem:
            self.meters.problems[exchange.problem,] += 1
        self.access.add(scope["method"], route, exchange.status, seconds)


class StepInFront:
    """ASGI middleware that, when the service starts, puts `front` before the whole application."""

    def __init__(self, app: ASGIApp, front: Front) -> None:
        self.app = app
        self.front = front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] == "lifespan":
            whole = scope["app"]
            self.front.behind, whole.middleware_stack = whole.middleware_stack, self.front
        await self.app(scope, receive, send)


async def _body(scope: Scope, receive: Receive) -> bytes:
    if scope["method"] != "POST":
        raise Problem(405, "method", "Use POST.", headers=(("Allow", "POST"),))
    message: Message = await receive()
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        return body
    parts, size = [message["body"]], len(message["body"])
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > JSON_LIMIT_BYTES:
            raise too_large(JSON_LIMIT_BYTES)
    return b"".join(parts)


async def _answers(api: Api, body: bytes) -> bytes:
    items, is_list = intake.items(body, datetime.now(UTC))
    outcomes = await api.answer(items)
    if not is_list:
        only = outcomes[0]
        if isinstance(only, Problem):
            raise only
        return msgspec.json.encode(only)
    if all(isinstance(outcome, Problem) and outcome.retry for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, Problem))
    pairs = zip(items, outcomes, strict=True)
    return msgspec.json.encode(
        [one if isinstance(one, Answer) else item_error(item, one) for item, one in pairs]
    )
