"""What a flow's command prints where Prefect's server fails."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from flows.command_line import run_command

REQUEST = httpx.Request("GET", "http://127.0.0.1:4200/api")


def refused(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("refused", request=REQUEST, response=httpx.Response(status, request=REQUEST))


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (refused(401), "PREFECT_API_AUTH_STRING"),
        (refused(403), "PREFECT_API_AUTH_STRING"),
        (refused(500), "PREFECT_API_URL"),
        (httpx.ConnectError("no route"), "PREFECT_API_URL"),
        (RuntimeError("Failed to reach API at http://127.0.0.1:4200/api/"), "PREFECT_API_URL"),
    ],
)
def test_a_failure_of_prefect_is_one_line_with_the_variable_to_correct(
    failure: Exception,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def command() -> None:
        raise failure

    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["flow"])
    with pytest.raises(SystemExit) as ended:
        run_command(command)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 3
    assert named in line


def test_another_error_is_not_taken_for_one_of_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(sys, "argv", ["flow"])
    with pytest.raises(RuntimeError, match="a bug"):
        run_command(command)
