"""Admission and error format of requests, over a small ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bentos.http.access_log import AccessLog
from bentos.http.fast_path import FastPath
from bentos.http.guard import JSON_LIMIT_BYTES, Guard, RateLimiter
from bentos.http.key_ring import KeyRing
from bentos.http.route_scopes import PUBLIC, Routes
from bentos.problems import MEDIA_TYPE
from retail_core.api_keys import Scope


async def echo(request: Request) -> Response:
    return JSONResponse({"bytes": len(await request.body())})


async def crash(_: Request) -> Response:
    raise RuntimeError("secret detail")


async def refuse(_: Request) -> Response:
    return JSONResponse(
        {"error": "bad", "detail": [{"loc": ["body", "x"], "msg": "is odd"}]}, status_code=400
    )


APP = Starlette(
    routes=[
        Route("/echo", echo, methods=["POST"]),
        Route("/events", echo, methods=["POST"]),
        Route("/score_batch", echo, methods=["POST"]),
        Route("/crash", crash),
        Route("/refuse", refuse),
        Route("/readyz", refuse),
    ]
)
ROUTES = Routes(
    {
        "/echo": Scope.PREDICT,
        "/events": Scope.EVENTS,
        "/score_batch": Scope.BATCH,
        "/crash": Scope.ADMIN,
        "/refuse": Scope.ADMIN,
        "/readyz": PUBLIC,
    }
)


def ask(
    method: str,
    path: str,
    *,
    keys: tuple[str, ...] = (),
    client: str = "127.0.0.1",
    headers: dict[str, str] | None = None,
    content: bytes | AsyncIterator[bytes] = b"",
    rate: float = 0.0,
) -> httpx.Response:
    async def send() -> httpx.Response:
        fast_path = FastPath(APP, Guard(KeyRing.of(*keys), 1000, rate, ROUTES), AccessLog(enabled=False))
        fast_path.bentoml_app = APP
        transport = httpx.ASGITransport(fast_path, raise_app_exceptions=False, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, path, headers=headers, content=content)

    return asyncio.run(send())


FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
FORM_END = b"\r\n--b--\r\n"


async def chunks(total: int, begin: bytes = b"", end: bytes = b"") -> AsyncIterator[bytes]:
    yield begin
    for _ in range(total // 1024 + 1):
        yield b"x" * 1024
    yield end


@pytest.mark.parametrize(
    ("key", "status"), [("first", 200), ("second", 200), ("", 401), ("firs", 401), ("é", 401)]
)
def test_any_of_the_keys_opens_and_nothing_else(key: str, status: int) -> None:
    headers = {"X-API-Key": key.encode()} if key else {}
    answer = ask("POST", "/echo", keys=("first", "second"), headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == status


def test_without_keys_only_this_machine_may_ask() -> None:
    assert ask("POST", "/echo").status_code == 200
    assert ask("POST", "/echo", client="192.0.2.7").status_code == 403
    assert (
        ask("POST", "/echo", client="192.0.2.7", keys=("k",), headers={"X-API-Key": "k"}).status_code == 200
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://localhost"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:8080", "origin": "http://127.0.0.1.evil.example:8080"}, 403),
        ({"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"}, 200),
        ({"host": "[::1]:8080"}, 200),
    ],
)
def test_without_keys_no_page_of_another_site_may_ask(headers: dict[str, str], status: int) -> None:
    assert ask("POST", "/echo", headers=headers).status_code == status
    key = {"X-API-Key": "k"}
    assert ask("POST", "/echo", keys=("k",), headers=headers | key).status_code == 200


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("", 200),
    ],
)
def test_json_needs_its_media_type(kind: str, status: int) -> None:
    answer = ask("POST", "/events", headers={"content-type": kind} if kind else {})
    assert answer.status_code == status
    assert status == 200 or answer.json()["type"] == "/docs#not-json"


def test_bodies_are_bounded_whether_or_not_they_say_their_length() -> None:
    assert ask("POST", "/echo", content=b"x" * 5000).json() == {"bytes": 5000}
    for content in (b"x" * (JSON_LIMIT_BYTES + 1), chunks(JSON_LIMIT_BYTES + 1)):
        answer = ask("POST", "/echo", content=content)
        assert (answer.status_code, answer.json()["type"]) == (413, "/docs#too-large")
    form = {"content-type": "multipart/form-data; boundary=b"}
    path = "/score_batch"
    assert ask("POST", path, headers=form, content=chunks(200_000, FILE_PART, FORM_END)).status_code == 413
    assert ask("POST", path, headers=form, content=chunks(2_000, FILE_PART, FORM_END)).status_code == 200


def test_an_upload_that_is_not_a_form_is_refused() -> None:
    path = "/score_batch"
    headers: dict[str, str] | None
    for headers in (None, {"content-type": "multipart/form-data"}, {"content-type": "text/csv"}):
        answer = ask("POST", path, headers=headers, content=b"user_id\n")
        assert (answer.status_code, answer.json()["type"]) == (422, "/docs#no-form")
        assert "multipart/form-data" in answer.json()["remedy"]


def test_each_key_has_its_own_rate_limit() -> None:
    limiter = RateLimiter(2.0)
    assert [limiter.wait_seconds("a", 0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert limiter.wait_seconds("b", 0.0) == 0.0
    assert limiter.wait_seconds("a", 0.25) == 0.25
    assert limiter.wait_seconds("a", 0.5) == 0.0
    assert [limiter.wait_seconds("a", 100.0) for _ in range(5)].count(0.0) == 4
    assert RateLimiter(0.0).wait_seconds("a", 0.0) == 0.0


def test_a_crash_is_a_problem_without_its_cause() -> None:
    answer = ask("GET", "/crash")
    assert (answer.status_code, answer.headers["content-type"]) == (500, MEDIA_TYPE)
    assert "secret" not in answer.text


def test_errors_of_starlette_and_bentoml_become_problems() -> None:
    answer = ask("GET", "/refuse")
    assert (answer.status_code, answer.headers["content-type"]) == (400, MEDIA_TYPE)
    assert answer.json()["detail"] == "bad; body.x: is odd"
    missing = ask("GET", "/nowhere")
    assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
    assert ask("GET", "/echo").headers["allow"] == "POST"
