"""The service ends in time: answers in progress are finished, new connections refused, no worker is left."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from bentos.supervision import ANSWER_SECONDS
from retail_core.settings import Settings
from retail_core.subprocesses import free_port, is_reachable, port_is_free, start, stop, wait_until
from tests.process_environment import without_coverage
from tests.serving import environment

pytestmark = pytest.mark.integration

BODY = json.dumps({"user_id": "u", "features": {}}).encode()
HEAD = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
SHUTDOWN_SECONDS = 10.0


@contextmanager
def started(settings: Settings, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The main process of a service with a standby, and its port."""
    port = free_port()
    served = settings.model_copy(update={"api_port": port, "standby": True})
    arguments = ["--host", "127.0.0.1", "--port", str(port)]
    process = start("bentos.serve", arguments, without_coverage(environment(served)), log)
    try:
        wait_until(lambda: is_reachable(f"http://127.0.0.1:{port}/readyz"), process, log)
        yield process, port
    finally:
        stop(process)


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def refuses_connections(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        return False
    time.sleep(0.02)
    return False


def still_running(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after some seconds; an orphan that nobody waits for has ended too."""
    alive = psutil.wait_procs(family, timeout=seconds)[1]
    return [member for member in alive if member.is_running() and member.status() != psutil.STATUS_ZOMBIE]


def test_sigterm_finishes_answers_and_refuses_connections(registered: Settings, tmp_path: Path) -> None:
    with started(registered, tmp_path / "api.log") as (process, port):
        begun = time.monotonic()
        # The version in production is the one in use.
        assert httpx.post(f"http://127.0.0.1:{port}/model/reload", timeout=60).status_code == 200
        assert time.monotonic() - begun < 2
        family = workers(process)
        address = ("127.0.0.1", port)
        with (
            closing(socket.create_connection(address)) as slow,
            closing(socket.create_connection(address)) as stuck,
        ):
            for connection in (slow, stuck):
                connection.sendall(HEAD + BODY[:5])
            time.sleep(0.5)
            process.terminate()
            begun = time.monotonic()
            while not refuses_connections(address):
                assert time.monotonic() - begun < ANSWER_SECONDS
            slow.sendall(BODY[5:])
            assert slow.recv(1000).startswith(b"HTTP/1.1 200")
            process.wait(30)
        assert time.monotonic() - begun < SHUTDOWN_SECONDS
        assert process.returncode == 0
        assert still_running(family, 1) == []


def test_no_worker_survives_a_killed_main_process(registered: Settings, tmp_path: Path) -> None:
    with started(registered, tmp_path / "api.log") as (process, port):
        family = workers(process)
        assert len(family) >= 3
        process.kill()
        process.wait()
        alive = still_running(family, SHUTDOWN_SECONDS)
        for worker in alive:
            worker.kill()
        assert alive == []
        assert port_is_free("127.0.0.1", port)
