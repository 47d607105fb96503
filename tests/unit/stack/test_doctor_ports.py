"""The doctor tells our API from another server on its port, also on a busy machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import pytest

from retail_core.settings import Settings
from retail_core.stack.doctor import doctor
from retail_core.subprocesses import free_port

OUR_ROUTES = ("/predict", "/events", "/score_batch")


class ApiStub(ThreadingHTTPServer):
    """Serves an OpenAPI document; it is never ready, and does not answer the first `ignored` requests."""

    daemon_threads = True

    def __init__(self, paths: tuple[str, ...], ignored: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.document = json.dumps({"paths": {path: {} for path in paths}}).encode()
        self.ignored = ignored
        self.ended = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    server: ApiStub

    def do_GET(self) -> None:
        if self.server.ignored:
            self.server.ignored -= 1
            self.server.ended.wait()
            return
        is_document = self.path == "/openapi.json"
        self.send_response(200 if is_document else 503)
        self.end_headers()
        self.wfile.write(self.server.document if is_document else b"")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def api_stub(paths: tuple[str, ...], ignored: int = 0) -> Iterator[int]:
    """The port of a running stub."""
    with ApiStub(paths, ignored) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()


def ports_check(home: Path, api_port: int) -> dict[str, str]:
    others = {name: free_port() for name in ("mlflow_port", "prefect_port", "app_port")}
    checks = doctor(Settings(home=home, api_port=api_port).model_copy(update=others))
    return next(check for check in checks if check["name"] == "ports")


@pytest.mark.parametrize(
    ("paths", "ignored", "state"),
    [(OUR_ROUTES, 0, "ok"), (OUR_ROUTES, 1, "ok"), (OUR_ROUTES, 9, "fail"), (("/predict",), 0, "fail")],
    ids=["not ready", "answers the second request", "never answers", "another server"],
)
def test_our_api_is_known_by_its_routes(
    paths: tuple[str, ...], ignored: int, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("retail_core.stack.doctor"), "ANSWER_SECONDS", 0.3)
    with api_stub(paths, ignored) as port:
        check = ports_check(tmp_path / "home", port)
    assert check["state"] == state
    assert (f"`retail serve` runs at {port}" if state == "ok" else f"{port} for api is in use") in check[
        "what"
    ]
