"""Preparing a Prefect server that is someone else's: credentials, and one line where it refuses."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from retail_core.stack import work_pool

ACCEPTED = {"Basic YWRtaW46c2VjcmV0", "Bearer key"}


class PrefectApi(http.server.BaseHTTPRequestHandler):
    """The routes that `work_pool` uses, behind credentials."""

    def do_GET(self) -> None:
        self._answer(404)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(201)

    def _answer(self, status: int) -> None:
        body = json.dumps({}).encode()
        self.send_response(status if self.headers.get("Authorization") in ACCEPTED else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), PrefectApi) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def prefect_variables(monkeypatch: pytest.MonkeyPatch, api: str) -> None:
    for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_API_URL", api)
    monkeypatch.setattr("sys.argv", ["work_pool"])


@pytest.mark.parametrize(
    ("variable", "value"), [("PREFECT_API_AUTH_STRING", "admin:secret"), ("PREFECT_API_KEY", "key")]
)
def test_credentials_are_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert work_pool.main() == 0
    assert "pool retail created" in capsys.readouterr().out


def test_refused_credentials_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert work_pool.main() == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "refused the credentials" in lines[0]
    assert "PREFECT_API_AUTH_STRING" in lines[0]


def test_a_server_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert work_pool.main() == 3
    assert "correct PREFECT_API_URL" in capsys.readouterr().err
