"""One supervised service: its definition, and the state machine of its process."""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from retail_core.errors import DependencyError
from retail_core.stack import processes
from retail_core.stack.processes import STACK_ID_VARIABLE, Identity
from retail_core.stack.state import ServiceState
from retail_core.times import iso

HEALTH_SECONDS = 2.0
WAIT_POLL_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 30.0
RESTART_COUNT_RESET_SECONDS = 300.0


@dataclass(frozen=True)
class Service:
    """A program that belongs to the stack.

    Args:
        name: name in messages and of the log file.
        command: program and arguments.
        port: the port it listens on; checked to be free before anything starts.
        variable: the environment variable that sets the port.
        host: the interface it listens on.
        url: address for people.
        health: URL that answers 2xx once the service is usable; empty for a task, which is done when it exits
            with 0.
        environment: added to the common environment.
        after: services that must be healthy (or done) first.
        wait: called before the start, possibly often: a reason to postpone it, or None.
        timeout: seconds from start to healthy.
        grace: seconds between SIGTERM and SIGKILL.
        restarts: restarts after failures before the service is given up.
        backoff: seconds before the first restart; doubled each time.
    """

    name: str
    command: tuple[str, ...]
    port: int | None = None
    variable: str = ""
    host: str = "127.0.0.1"
    url: str = ""
    health: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    wait: Callable[[], str | None] | None = None
    timeout: float = 300.0
    grace: float = 10.0
    restarts: int = 5
    backoff: float = 1.0


def is_healthy(url: str, seconds: float = HEALTH_SECONDS) -> bool:
    """Whether a loopback URL answers 2xx; proxies are bypassed."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=seconds)
    try:
        connection.request("GET", address.path or "/")
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Child:
    """The process of one service and its state.

    waiting -> starting -> healthy (or done, for a task). After a failure: backoff -> starting, after too many
    failures: failed. `step` is called often and never blocks for longer than a health request.

    Args:
        service: what to run.
        mark: value of STACK_ID_VARIABLE in the environment of its processes.
        log: file of its output.
        report: receives messages for people.

    While `strict` is set, a failure of the first start is an error; later failures lead to restarts.
    """

    def __init__(self, service: Service, *, mark: str, log: Path, report: Callable[[str], None]) -> None:
        self.service = service
        self.mark = mark
        self.log = log
        self.report = report
        self.strict = True
        self.status = ServiceState(port=service.port, url=service.url, health=service.health, log=str(log))
        self.process: subprocess.Popen[bytes] | None = None
        self.ever_healthy = False
        self._started = 0.0
        self._healthy_at = 0.0
        self._next = 0.0

    @property
    def settled(self) -> bool:
        """Whether the start is over: usable, done, failed, or postponed by `wait`."""
        return self.status.state in {"healthy", "done", "failed"} or bool(
            self.status.state == "waiting" and self.status.note
        )

    @property
    def usable(self) -> bool:
        """Whether services that depend on this one may start."""
        return self.status.state in {"healthy", "done"}

    def step(self, common: Mapping[str, str], cwd: Path) -> None:
        """Check the process and make the next transition.

        Raises:
            DependencyError: the first start failed while `strict` is set.
        """
        seconds = time.monotonic()
        if self.status.state == "waiting":
            if seconds >= self._next and self._may_start(seconds):
                self._start(common, cwd)
        elif self.status.state == "backoff":
            if seconds >= self._next:
                self._start(common, cwd)
        elif self.status.state == "starting":
            self._check_start(seconds)
        elif self.status.state == "healthy" and self.process is not None and self.process.poll() is not None:
            self._handle_failure(f"ended with exit code {self.process.returncode}")

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def ended(self) -> bool:
        """Whether its main process has ended or was never started."""
        return self.process is None or self.process.poll() is not None

    def sweep(self, linger: float) -> None:
        """End every remaining process of the service."""
        identity = self.status.identity
        processes.end_remaining(self.mark, [identity] if identity else [], linger=linger)
        if self.process is not None:
            self.process.wait(timeout=processes.KILL_SECONDS)
        self._set_state("stopped" if self.status.state not in {"done", "failed"} else self.status.state)

    def _may_start(self, seconds: float) -> bool:
        reason = self.service.wait() if self.service.wait else None
        if reason:
            if reason != self.status.note:
                self.report(reason)
            self._next = seconds + WAIT_POLL_SECONDS
        self.status.note = reason or ""
        return reason is None

    def _start(self, common: Mapping[str, str], cwd: Path) -> None:
        environment = {**common, **self.service.environment, STACK_ID_VARIABLE: self.mark}
        try:
            self.process = processes.start(
                self.service.command, environment=environment, cwd=cwd, log=self.log
            )
        except OSError as error:
            self._handle_failure(f"cannot be started: {error}")
            return
        identity = Identity.of(self.process.pid)
        self.status.pid = self.process.pid
        self.status.created = identity.created if identity else None
        self._started = time.monotonic()
        self._set_state("starting")

    def _check_start(self, seconds: float) -> None:
        process = self.process
        if process is None:
            return
        code = process.poll()
        if code is not None:
            if code == 0 and not self.service.health:
                self._set_state("done")
                self.report(f"done after {seconds - self._started:.1f} s")
            else:
                self._handle_failure(f"ended with exit code {code} before it was ready")
        elif self.service.health and is_healthy(self.service.health):
            self.ever_healthy = True
            self._healthy_at = seconds
            self._set_state("healthy")
            self.report(f"ready after {seconds - self._started:.1f} s {self.service.url}".rstrip())
        elif seconds - self._started > self.service.timeout:
            self._handle_failure(f"was not ready within {self.service.timeout:.0f} s")

    def _handle_failure(self, cause: str) -> None:
        """End the remaining processes; schedule a restart, or give up."""
        identity = self.status.identity
        processes.end(self.mark, [identity] if identity else [], grace=0)
        if self.process is not None:
            self.process.wait(timeout=processes.KILL_SECONDS)
        if self.strict and not self.ever_healthy:
            self._set_state("failed")
            raise DependencyError(f"{self.service.name} {cause}.", remedy=f"see {self.log}.")
        if time.monotonic() - self._healthy_at > RESTART_COUNT_RESET_SECONDS:
            self.status.restarts = 0
        if self.status.restarts >= self.service.restarts:
            self.status.note = f"{cause}; given up after {self.status.restarts} restarts"
            self._set_state("failed")
            self.report(f"{self.status.note}, see {self.log}")
            return
        pause = min(LONGEST_BACKOFF_SECONDS, self.service.backoff * 2**self.status.restarts)
        self.status.restarts += 1
        self._next = time.monotonic() + pause
        self._set_state("backoff")
        self.report(f"{cause}; restart {self.status.restarts} of {self.service.restarts} in {pause:.1f} s")

    def _set_state(self, state: str) -> None:
        self.status.state = state
        self.status.since = iso(datetime.now(UTC))
