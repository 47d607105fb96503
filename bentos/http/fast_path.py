"""The fast path: the ASGI application ahead of BentoML's middlewares.

Those take a third of the time of a short request, and hold a timer for each request until its time-out, an
hour. So `/predict` is answered here, our other routes by our own application, and only BentoML's
routes by BentoML.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.admission import ADMITTED, predictions
from bentos.correlation import REQUEST_ID, TRACE_HEADER, Correlation, correlate, current
from bentos.http.access_log import AccessEntry, AccessLog
from bentos.http.exchange import CLIENT_GONE, ClientGoneError, Exchange
from bentos.http.guard import API_KEY, JSON_LIMIT_BYTES, KEY_HEADERS, Guard, too_large
from bentos.messages import Answer, ItemError, ProblemDocument
from bentos.prediction_service import PredictionService
from bentos.problems import Problem, unexpected
from bentos.request_items import DecodedItem, RejectedItem, decode_items
from bentos.service_metrics import ServiceMetrics
from bentos.tracing import RequestTracer, end_span
from retail_core.api_keys import ApiKey

if TYPE_CHECKING:
    from opentelemetry.trace import Span

BENTOML_ROUTES = frozenset({"/livez", "/readyz", "/healthz"})
"""Routes that BentoML answers; all others are those of our application."""

MODEL_ROUTES = frozenset({"/predict", "/model", "/readyz", "/score_batch"})
"""Routes that are refused while no model is loaded."""

NO_KEY = "-"
"""Stands for the key of a request to a public route, or of one with a wrong key."""

REPLACED_HEADERS = KEY_HEADERS | {TRACE_HEADER}
"""Headers that no application gets as they came."""

_JSON = (b"content-type", b"application/json")

log = logging.getLogger("bentoml.serve")


class FastPath:
    """ASGI application that admits each request and passes it on, or answers it itself.

    Args:
        own_app: the application with our routes.
        guard: admission of requests.
        access_log: receives one line per request.

    Attributes:
        bentoml_app: BentoML's application with its middlewares; set when the service starts.
        service: answers `/predict`; set when the service starts.
        tracer: makes OpenTelemetry spans; None while traces are off.
    """

    def __init__(self, own_app: ASGIApp, guard: Guard, access_log: AccessLog) -> None:
        self.own_app = own_app
        self.guard = guard
        self.access_log = access_log
        self.metrics = ServiceMetrics()
        self.metrics.register_gauge(
            "retail_api_keys_refused",
            "1 while the file of API keys is unreadable",
            lambda: guard.keys.file_refused,
        )
        self.bentoml_app: ASGIApp | None = None
        self.service: PredictionService | None = None
        self.tracer: RequestTracer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await _refuse_websocket(scope, send)
            return
        started = time.perf_counter()
        route = self.guard.routes.of(scope["path"])
        span, ids = self._trace(scope, route)
        exchange = Exchange(self.guard.limit_bytes(scope["path"]), ids, receive, send)
        try:
            await self._answer(scope, route, exchange)
        finally:
            if ADMITTED in scope:
                predictions.leave()
            exchange.give_back_memory()
            key = self._record(scope, route, exchange, time.perf_counter() - started)
            if span is not None:
                end_span(span, exchange.status, key)

    async def _answer(self, scope: Scope, route: str, exchange: Exchange) -> None:
        problem = self.guard.refusal(scope, route, time.perf_counter()) or self._missing_model(route)
        if problem is not None:
            await exchange.send_problem(problem)
        elif route == "/predict" and self.service is not None:
            await self._predict(self.service, scope, exchange)
        else:
            # No application behind this one needs the key, or could store it.
            headers = [pair for pair in scope["headers"] if pair[0] not in REPLACED_HEADERS]
            headers.append((TRACE_HEADER, exchange.ids.traceparent))
            app = self._call_bentoml if route in BENTOML_ROUTES else self.own_app
            await exchange.run(app, {**scope, "headers": headers})

    def _trace(self, scope: Scope, route: str) -> tuple[Span | None, Correlation]:
        """The request's span, if traces are on, and its ids, which its scope and its log records get."""
        span, ids = None, correlate(scope["headers"])
        if self.tracer is not None:
            span, ids = self.tracer.start(scope["method"], route, ids)
        scope[REQUEST_ID] = ids.request_id
        current.set(ids)
        return span, ids

    def record_refusal(self, ids: Correlation) -> None:
        """Count a prediction that was refused before it came here."""
        self.metrics.record_request("/predict", 503, 0.0)
        self.metrics.record_problem("overloaded")
        self.access_log.add(AccessEntry(time.time(), "POST", "/predict", 503, 0.0, NO_KEY, ids))

    def _missing_model(self, route: str) -> Problem | None:
        if self.service is None or self.service.has_model or route not in MODEL_ROUTES:
            return None
        detail = "No model version is in production yet; events are accepted."
        return Problem(503, "no-model", detail, retry=True, remedy="run `retail train`.")

    async def _call_bentoml(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.bentoml_app is None:
            raise RuntimeError("the service has not started")
        await self.bentoml_app(scope, receive, send)

    async def _predict(self, service: PredictionService, scope: Scope, exchange: Exchange) -> None:
        try:
            body = await _read_body(scope, exchange)
            await exchange.send_response(200, await _predict_body(service, body), _JSON)
        except Problem as problem:
            await exchange.send_problem(problem)
        except ClientGoneError:
            exchange.status = CLIENT_GONE
        except Exception:
            if exchange.status:
                raise
            log.exception("POST /predict failed, request %s", exchange.ids.request_id)
            await exchange.send_problem(unexpected())

    def _record(self, scope: Scope, route: str, exchange: Exchange, seconds: float) -> str:
        """Count and log the request; the name of its key."""
        self.metrics.record_request(route, exchange.status, seconds)
        if exchange.problem_kind:
            self.metrics.record_problem(exchange.problem_kind)
        key: ApiKey | None = scope.get(API_KEY)
        name = key.name if key else NO_KEY
        self.metrics.record_key(name)
        self.access_log.add(
            AccessEntry(time.time(), scope["method"], route, exchange.status, seconds, name, exchange.ids)
        )
        return name


class FastPathMiddleware:
    """ASGI middleware that puts the fast path ahead of BentoML's whole application when it starts."""

    def __init__(self, app: ASGIApp, fast_path: FastPath) -> None:
        self.app = app
        self.fast_path = fast_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            bentoml = scope["app"]
            self.fast_path.bentoml_app, bentoml.middleware_stack = bentoml.middleware_stack, self.fast_path
        await self.app(scope, receive, send)


async def _refuse_websocket(scope: Scope, send: Send) -> None:
    """Close a WebSocket connection: no route takes one."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})


async def _read_body(scope: Scope, exchange: Exchange) -> bytes:
    if scope["method"] != "POST":
        raise Problem(405, "method", "Use POST.", headers=(("Allow", "POST"),))
    message: Message = await exchange.receive()
    if message["type"] == "http.request" and not message["more_body"]:
        body: bytes = message["body"]
        return body
    chunks: list[bytes] = []
    while message["type"] == "http.request":
        chunks.append(message["body"])
        exchange.received_bytes += len(chunks[-1])
        if exchange.received_bytes > JSON_LIMIT_BYTES:
            raise too_large(JSON_LIMIT_BYTES)
        if not message["more_body"]:
            return b"".join(chunks)
        exchange.take_memory(len(chunks[-1]))
        message = await exchange.receive()
    raise ClientGoneError


async def _predict_body(service: PredictionService, body: bytes) -> bytes:
    """The JSON response to a JSON request of one item or a list.

    Raises:
        Problem: of a single item; of a list only where every item can be retried later.
    """
    items, is_list = await decode_items(body, datetime.now(UTC))
    outcomes = await service.predict_items(items)
    if not is_list:
        outcome = outcomes[0]
        if isinstance(outcome, Problem):
            raise outcome
        return msgspec.json.encode(outcome)
    if all(isinstance(outcome, Problem) and outcome.retry for outcome in outcomes):
        raise next(outcome for outcome in outcomes if isinstance(outcome, Problem))
    pairs = zip(items, outcomes, strict=True)
    return msgspec.json.encode(
        [outcome if isinstance(outcome, Answer) else _item_error(item, outcome) for item, outcome in pairs]
    )


def _item_error(item: DecodedItem | RejectedItem, problem: Problem) -> ItemError:
    """The entry of an item without a prediction in the response to a list."""
    body = problem.body()
    document = ProblemDocument(
        type=str(body["type"]),
        title=str(body["title"]),
        status=problem.status,
        detail=problem.detail,
        remedy=problem.remedy,
        errors=list(problem.errors),
    )
    return ItemError(item.user_id, document)
