"""Slow clients are disconnected, and predictions beyond the limit refused, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from bentos import admission
from bentos.admission import ADMITTED, Admission
from bentos.http import server
from bentos.http.server import ServiceServer
from retail_core.subprocesses import free_port

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
SECONDS = 0.5
WAIT_SECONDS = 5.0
LARGE_BYTES = 50_000_000


class App:
    """Answers with the number of bytes once `may_answer`; counts as our application does."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.calls += 1
        size, more_body = 0, True
        while more_body:
            message = await receive()
            size += len(message.get("body", b""))
            more_body = message.get("more_body", False)
        while not self.may_answer.is_set():
            await asyncio.sleep(0.005)
        if ADMITTED in scope:
            server.predictions.leave()
        body = str(size).encode() if scope["path"] != "/large" else b"x" * LARGE_BYTES
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def port(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "HEAD_SECONDS", SECONDS)
    monkeypatch.setattr(server, "BODY_SECONDS", SECONDS)
    monkeypatch.setattr(server, "READER_SECONDS", SECONDS)
    monkeypatch.setattr(server, "predictions", Admission(2))
    port = free_port()
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="off", timeout_keep_alive=60)
    running = ServiceServer(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield port
    app.may_answer.set()
    running.should_exit = True
    thread.join()


def until_closed(connection: socket.socket) -> bytes:
    """What the server sends until it closes the connection."""
    connection.settimeout(WAIT_SECONDS)
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


@pytest.mark.parametrize("begin", [b"", b"\r\n", b"PO", HEAD, HEAD + b"\r\n", HEAD + b"\r\n12345"])
def test_a_request_that_does_not_arrive_is_ended(port: int, begin: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.sendall(begin)
        assert b" 408 " in until_closed(connection).partition(b"\r\n")[0]


def test_a_body_is_ended_where_each_byte_comes_in_time(port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.sendall(HEAD.replace(b"10", b"1000") + b"\r\n")
        started = time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < started + WAIT_SECONDS:
                connection.sendall(b"x")
                time.sleep(0.05)
    assert time.monotonic() < started + WAIT_SECONDS


def test_a_kept_connection_may_wait_and_is_then_asked_again(port: int) -> None:
    request = HEAD + b"\r\n0123456789"
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        for _ in range(2):
            connection.sendall(request)
            received = b""
            while not received.endswith(b"10"):
                received += (part := connection.recv(1000))
                assert part, received
            time.sleep(2 * SECONDS + 1)


def test_a_client_that_does_not_read_is_disconnected(port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.sendall(HEAD.replace(b"/predict", b"/large") + b"\r\n0123456789")
        time.sleep(SECONDS + 2.5)
        assert len(until_closed(connection)) < LARGE_BYTES


def test_predictions_beyond_the_limit_are_refused_at_once(app: App, port: int) -> None:
    app.may_answer.clear()
    url = f"http://127.0.0.1:{port}/predict"
    with httpx.Client(trust_env=False) as client:
        responses: list[httpx.Response] = []
        waiting = [
            threading.Thread(target=lambda: responses.append(httpx.post(url, content=b"x", trust_env=False)))
            for _ in range(2)
        ]
        for thread in waiting:
            thread.start()
        while app.calls < 2:
            time.sleep(0.01)
        for _ in range(3):
            refused = client.post(url, content=b"x")
            assert (refused.status_code, refused.json()["type"]) == (503, "/docs#overloaded")
            assert refused.headers["retry-after"] == "1"
        assert app.calls == 2
        app.may_answer.set()
        for thread in waiting:
            thread.join()
        assert [response.status_code for response in responses] == [200, 200]
        assert client.post(url, content=b"x").status_code == 200
        assert client.post(url, content=b"x" * 200_000).text == "200000"


def test_pipelined_predictions_are_answered_in_order(app: App, port: int) -> None:
    first, second = HEAD + b"\r\n0123456789", HEAD.replace(b"10", b"3") + b"Connection: close\r\n\r\n012"
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.sendall(first + second)
        answers = until_closed(connection)
    assert answers.count(b"HTTP/1.1 200") == 2
    assert answers.index(b"\r\n\r\n10") < answers.index(b"\r\n\r\n3")
    assert server.predictions.active == 0


def test_connections_beyond_the_limit_are_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "connection_limit", lambda: 1)
    address = ("127.0.0.1", port)
    with closing(socket.create_connection(address)), closing(socket.create_connection(address)) as second:
        assert b" 503 " in until_closed(second).partition(b"\r\n")[0]


def test_memory_of_bodies_is_limited() -> None:
    memory = admission.BodyMemory(10)
    memory.take(8)
    with pytest.raises(admission.Problem):
        memory.take(3)
    memory.give_back(8)
    memory.take(10)


def test_lists_beyond_the_limit_are_refused() -> None:
    async def outcomes() -> list[object]:
        turns = admission.ListTurns(running=1, waiting=2)

        async def take() -> None:
            async with turns.turn():
                await asyncio.sleep(0.01)

        return await asyncio.gather(*(take() for _ in range(5)), return_exceptions=True)

    results = asyncio.run(outcomes())
    assert [isinstance(result, admission.Problem) for result in results].count(True) == 2
