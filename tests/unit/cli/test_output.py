"""What reaches stdout: exactly one JSON object a command, and nothing that steers a terminal."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from pymongo.errors import AutoReconnect

from retail_core.cli import output
from retail_core.cli.edge import run_with_exit_code, user_error_of
from tests.command_line import retail, retail_process


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-command",),
        ("ingest",),
        ("ingest", "x.csv", "--no-such-option"),
        ("quarantine", "list", "--limit", "0"),
        ("audience", "--budget", "many"),
        ("serve", "--port", "0"),
        ("models", "show"),
    ],
)
def test_usage_errors_are_one_json_object_too(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = retail(*arguments, "--json", home=tmp_path)
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert set(json.loads(line)) == {"error", "remedy"}
    assert done.stderr


@pytest.mark.parametrize(
    ("arguments", "lines"), [(["retail", "score", "--json"], 1), (["retail", "score"], 0)]
)
def test_a_bug_is_one_json_object_and_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], lines: int
) -> None:
    monkeypatch.setattr("sys.argv", arguments)

    def broken() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError):
        run_with_exit_code(broken, user_error_of)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == lines
    assert all("KeyError" in json.loads(line)["error"] for line in printed)


def test_a_full_disk_is_one_line_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_with_exit_code(lambda: Path("/dev/full").write_text("x"), user_error_of)
    assert end.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
    assert "Remedy:" in line


def test_a_lost_connection_to_mongodb_is_a_dependency_error_with_a_remedy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lose_connection() -> None:
        raise AutoReconnect("connection closed")

    with pytest.raises(SystemExit) as end:
        run_with_exit_code(lose_connection, user_error_of)
    assert end.value.code == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "The connection to MongoDB was lost" in line
    assert "retail doctor" in line


def test_figures_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit({"f1": float("nan"), "by": [float("inf"), 1.5]}, json_output=True, title="")
    assert capsys.readouterr().out == '{"f1": null, "by": [null, 1.5]}\n'


def test_values_are_shown_as_they_are_and_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "[/b][red]\x1b[31mx"
    output.print_rows([{"value": hostile}], title=hostile)
    output.emit({"user_id": hostile}, json_output=False, title=hostile)
    output.print_line(hostile)
    printed = capsys.readouterr().out
    assert printed.count(r"[/b][red]\x1b[31mx") == 5
    assert "\x1b" not in printed


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows([], title="Quarantine")
    assert capsys.readouterr().out == "Quarantine: nothing\n"


@pytest.mark.parametrize(
    "command", [("serve",), ("up", "--detach"), ("models", "list"), ("ingest", __file__)]
)
def test_a_home_that_is_a_file_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    done = retail(*command, "--json", home=home)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert str(home) in json.loads(line)["error"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_a_port_that_does_not_exist_is_named_by_its_variable(tmp_path: Path, port: str) -> None:
    done = retail("up", "--json", home=tmp_path, RETAIL_API_PORT=port)
    assert done.returncode == 1
    assert "RETAIL_API_PORT" in json.loads(done.stdout)["error"]


def test_a_busy_port_is_said_before_anything_is_detached(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        done = retail("up", "--detach", "--json", home=tmp_path, RETAIL_API_PORT=port)
    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert f"Port {port} for api" in report["error"]
    assert "RETAIL_API_PORT" in report["remedy"]
    assert not (tmp_path / "logs" / "stack.log").exists()


def test_serving_on_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        plain = retail_process("serve", "--port", port, home=tmp_path)
        done = retail_process("serve", "--port", port, "--json", home=tmp_path)
    for run in (plain, done):
        assert run.returncode == 3
        (line,) = run.stderr.splitlines()
        assert f"Port {port} is in use by process {os.getpid()}" in line
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["error"].startswith(f"Port {port} is in use")
    assert "--port" in json.loads(line)["remedy"]


def test_serving_to_everyone_without_keys_says_why_not(tmp_path: Path) -> None:
    done = retail_process("serve", "--json", home=tmp_path, RETAIL_API_HOST="0.0.0.0")
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert "RETAIL_API_KEYS" in json.loads(line)["remedy"]
