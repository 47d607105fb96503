"""Request ids, trace context, spans and JSON logs of requests."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bentos.correlation import Correlation, correlate, current
from bentos.http.access_log import AccessEntry, AccessLog
from bentos.http.fast_path import FastPath
from bentos.http.guard import Guard
from bentos.http.key_ring import KeyRing
from bentos.json_logs import JsonFormatter
from bentos.problems import Problem
from bentos.tracing import EXPORTER_GROUP, RequestTracer, load_tracer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


async def headers(request: Request) -> Response:
    return JSONResponse(dict(request.headers))


async def refuse(request: Request) -> Response:
    raise Problem(409, "reload-refused", "no")


async def crash(_: Request) -> Response:
    logging.getLogger("bentoml.serve").warning("about to fail")
    raise RuntimeError("secret")


async def respond(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem.response(request.scope["request_id"])


APP = Starlette(
    routes=[
        Route("/model", headers),
        Route("/model/reload", refuse, methods=["POST"]),
        Route("/events", crash, methods=["POST"]),
    ],
    exception_handlers={Problem: respond},
)


def ask(method: str, path: str, sent: dict[str, str], tracer: RequestTracer | None = None) -> httpx.Response:
    async def send() -> httpx.Response:
        fast_path = FastPath(APP, Guard(KeyRing(), 1000), AccessLog(enabled=False))
        fast_path.bentoml_app = APP
        fast_path.tracer = tracer
        transport = httpx.ASGITransport(fast_path, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, path, headers=sent)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/model", 200),
        ("POST", "/model/reload", 409),
        ("POST", "/events", 500),
        ("POST", "/predict", 404),
        ("GET", "/livez", 404),
        ("GET", "/no-such-path", 404),
        ("GET", "/events", 405),
    ],
)
def test_every_response_has_the_ids_of_its_request(method: str, path: str, status: int) -> None:
    answer = ask(method, path, {"X-Request-ID": "order-7", "traceparent": TRACEPARENT})
    assert answer.status_code == status
    assert answer.headers.get_list("x-request-id") == ["order-7"]
    (traceparent,) = answer.headers.get_list("traceparent")
    version, trace_id, span_id, flags = traceparent.split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "01")
    assert span_id != PARENT
    if status >= 400:
        assert answer.json()["request_id"] == "order-7"
    created = ask(method, path, {})
    assert created.headers["x-request-id"] == created.headers["traceparent"].split("-")[1]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-extra",
        f"00-{TRACE}-{PARENT}-1",
    ],
)
def test_an_invalid_traceparent_starts_a_new_trace(value: str) -> None:
    ids = correlate([(b"traceparent", value.encode())])
    assert ids.trace_id != TRACE
    assert (len(ids.trace_id), len(ids.span_id), ids.parent_id) == (32, 16, "")


def test_a_traceparent_of_a_later_version_is_understood() -> None:
    assert correlate([(b"traceparent", f"01-{TRACE}-{PARENT}-01-extra".encode())]).trace_id == TRACE


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "x" * 129, "é", '"'])
def test_an_invalid_request_id_is_replaced(value: str) -> None:
    ids = correlate([(b"x-request-id", value.encode())])
    assert ids.request_id == ids.trace_id


def test_applications_get_the_trace_of_this_request() -> None:
    seen = ask("GET", "/model", {"traceparent": TRACEPARENT, "X-API-Key": "k", "Authorization": "Bearer k"})
    assert seen.json()["traceparent"] == seen.headers["traceparent"]
    assert not {"x-api-key", "authorization"} & set(seen.json())


def test_a_span_is_the_child_of_the_clients_span() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    answer = ask("GET", "/model", {"traceparent": TRACEPARENT}, RequestTracer(provider))
    assert ask("POST", "/events", {}, RequestTracer(provider)).status_code == 500
    child, root = exporter.get_finished_spans()
    assert (child.name, child.attributes) == (
        "GET /model",
        {
            "http.request.method": "GET",
            "http.route": "/model",
            "http.response.status_code": 200,
            "retail.api_key": "local",
        },
    )
    assert child.parent is not None
    assert (child.context.trace_id, child.parent.span_id) == (int(TRACE, 16), int(PARENT, 16))
    assert answer.headers["traceparent"] == f"00-{TRACE}-{child.context.span_id:016x}-01"
    assert root.parent is None
    assert root.status.status_code.name == "ERROR"


def test_traces_are_off_unless_the_variables_request_them(caplog: pytest.LogCaptureFixture) -> None:
    assert load_tracer({}) is None
    assert load_tracer({"OTEL_TRACES_EXPORTER": "none"}) is None
    assert load_tracer({"OTEL_TRACES_EXPORTER": "console"}) is not None
    with caplog.at_level(logging.ERROR, "bentoml.serve"):
        assert load_tracer({"OTEL_TRACES_EXPORTER": "no-such"}) is None
    assert "opentelemetry-exporter-no-such" in caplog.text


def test_an_exporter_that_cannot_be_started_is_logged_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    distribution = tmp_path / "broken-1.0.dist-info"
    distribution.mkdir()
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(f"[{EXPORTER_GROUP}]\nbroken = no_such_module:Exporter\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with caplog.at_level(logging.ERROR, "bentoml.serve"):
        assert load_tracer({"OTEL_TRACES_EXPORTER": "broken"}) is None
    assert "no_such_module" in caplog.text


def test_json_records_have_the_ids_of_their_request() -> None:
    formatter = JsonFormatter()
    record = logging.LogRecord("bentoml.serve", logging.ERROR, "f", 1, "bad %s", ("thing\n",), None)
    plain = json.loads(formatter.format(record))
    assert (plain["level"], plain["logger"], plain["message"]) == ("ERROR", "bentoml.serve", "bad thing\n")
    assert plain["time"].endswith("Z")
    assert "request_id" not in plain
    token = current.set(Correlation("order-7", TRACE, PARENT))
    try:
        record.exc_info = (RuntimeError, RuntimeError("why"), None)
        line = formatter.format(record)
    finally:
        current.reset(token)
    assert "\n" not in line
    of_request = json.loads(line)
    assert (of_request["request_id"], of_request["trace_id"]) == ("order-7", TRACE)
    assert "RuntimeError: why" in of_request["exception"]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_access_log_has_key_and_request_id(caplog: pytest.LogCaptureFixture, *, as_json: bool) -> None:
    access_log = AccessLog(enabled=True, as_json=as_json)
    for status in (200, 404):
        ids = Correlation("order-7", TRACE, PARENT)
        access_log.add(AccessEntry(1_738_108_800.0, "POST", "/predict", status, 0.0031, "crm", ids))
    with caplog.at_level(logging.INFO, "bentoml.access"):
        access_log.flush()
        access_log.flush()
    (record,) = caplog.records
    lines = (JsonFormatter().format(record) if as_json else record.getMessage()).splitlines()
    if not as_json:
        assert lines == [f"POST /predict {status} 3.1 ms crm order-7" for status in (200, 404)]
        return
    first, second = map(json.loads, lines)
    assert first == {
        "time": "2025-01-29T00:00:00.000Z",
        "level": "INFO",
        "logger": "bentoml.access",
        "method": "POST",
        "route": "/predict",
        "status": 200,
        "ms": 3.1,
        "key": "crm",
        "request_id": "order-7",
        "trace_id": TRACE,
    }
    assert second["status"] == 404
