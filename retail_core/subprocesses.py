"""Run modules of this project as subprocesses: results as JSON, errors re-raised, ports and readiness."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retail_core.errors import DependencyError, RetailError
from retail_core.file_locks import create_private_folder

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds `flows`, `bentos` and `app`."""


def call_json(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run `python -m module *arguments --json` from the project's folder and return what it printed.

    Raises:
        RetailError: the program ended with an error; its own message and remedy.
    """
    command = [sys.executable, "-m", module, *arguments, "--json"]
    completed = subprocess.run(
        command, cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False
    )
    lines = completed.stdout.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        answer = {}
    if completed.returncode == 0 and answer:
        return answer
    failure = f"{module} ended with code {completed.returncode}: {completed.stderr[-2000:]}"
    error = RetailError(
        str(answer.get("error") or failure),
        remedy=str(answer.get("remedy") or "see the message above and run it again."),
    )
    error.exit_code = completed.returncode or 1
    raise error


def free_port() -> int:
    """A TCP port of loopback on which no process listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(host: str, port: int) -> bool:
    """Whether a server can listen on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def start(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start `python -m module *arguments` in its own session, with its output in `log`."""
    create_private_folder(log.parent)
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=dict(environment),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], grace_seconds: float = 20) -> None:
    """End `process` and its descendants; SIGKILL after the grace period."""
    import psutil

    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(family, timeout=3)
        for straggler in alive:
            straggler.kill()


def is_reachable(url: str) -> bool:
    """Whether an HTTP GET of `url` gives a status below 400 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # nosec B310 # noqa: S310 - http on loopback
            return int(response.status) < 400
    except (urllib.error.URLError, OSError):
        return False


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, timeout_seconds: float = 120
) -> None:
    """Return once `ready()`; the process may take `timeout_seconds`.

    Raises:
        DependencyError: the process ended or took too long; the end of its log is in the message.
    """
    deadline = time.perf_counter() + timeout_seconds
    while not ready():
        if process.poll() is not None or time.perf_counter() > deadline:
            tail = log.read_text(errors="replace")[-1500:]
            raise DependencyError(
                f"A service did not become ready. The end of {log}:\n{tail}",
                remedy="see the log, then `retail doctor`.",
            )
        time.sleep(0.25)
