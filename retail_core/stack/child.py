"""One supervised service: what it is, and the life of its process."""

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
from retail_core.stack.processes import MARK, Identity
from retail_core.stack.state import ServiceState
from retail_core.times import iso

HEALTH_SECONDS = 2.0
WAIT_POLL_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 30.0
FORGIVEN_AFTER_SECONDS = 300.0


@dataclass(frozen=True)
class Service:
    """A program that belongs to the stack.

    Args:
        name: as people call it; names the log file too.
        command: program and arguments.
        port: the port it listens on; refused before anything starts when somebody has it.
        variable: the environment variable that moves the port.
        host: the interface it listens on.
        url: what a person opens.
        health: answers 2xx once it can be used. Without one it is a task: done when it exits with 0.
        environment: added to the common environment.
        after: services that must be healthy (or done) first.
        wait: asked before the start; a sentence that says why not yet, or None. May be called often.
        timeout: seconds from start to healthy.
        grace: seconds between the polite and the forceful end.
        restarts: how often it is restarted after it died, before it is given up.
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


def answers(url: str, seconds: float = HEALTH_SECONDS) -> bool:
    """Whether a loopback URL answers 2xx; no proxy is asked."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=seconds)
    try:
        connection.request("GET", parts.path or "/")
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Child:
    """The process of one service through its states.

    waiting -> starting -> healthy (or done, for a task); a death leads to backoff and starting again,
    too many to failed. `step` is called often and never blocks for longer than a health request.

    Args:
        service: what to run.
        mark: what its processes carry.
        log: where it writes.
        say: takes a line for a person.

    While `strict` is set, a service that does not come up the first time is an error; later it is
    restarted like one that died.
    """

    def __init__(self, service: Service, *, mark: str, log: Path, say: Callable[[str], None]) -> None:
        self.service = service
        self.mark = mark
        self.log = log
        self.say = say
        self.strict = True
        self.seen = ServiceState(port=service.port, url=service.url, health=service.health, log=str(log))
        self.process: subprocess.Popen[bytes] | None = None
        self.ever_healthy = False
        self._started = 0.0
        self._healthy_at = 0.0
        self._next = 0.0

    @property
    def settled(self) -> bool:
        """Nothing is to be waited for: it can be used, is over, or waits for something outside."""
        return self.seen.state in {"healthy", "done", "failed"} or bool(
            self.seen.state == "waiting" and self.seen.note
        )

    @property
    def usable(self) -> bool:
        """Others may build on it."""
        return self.seen.state in {"healthy", "done"}

    def step(self, common: Mapping[str, str], cwd: Path) -> None:
        """Look at the process and do the next thing.

        Raises:
            DependencyError: it is strict and did not come up the first time.
        """
        now = time.monotonic()
        if self.seen.state == "waiting":
            if now >= self._next and self._may_start(now):
                self._start(common, cwd)
        elif self.seen.state == "backoff":
            if now >= self._next:
                self._start(common, cwd)
        elif self.seen.state == "starting":
            self._look_at_start(now)
        elif self.seen.state == "healthy" and self.process is not None and self.process.poll() is not None:
            self._died(f"ended with exit code {self.process.returncode}")

    def terminate(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def ended(self) -> bool:
        """Whether its first process has ended (or never began)."""
        return self.process is None or self.process.poll() is not None

    def sweep(self, linger: float) -> None:
        """End everything it left behind."""
        identity = self.seen.identity
        processes.end_rest(self.mark, [identity] if identity else [], linger=linger)
        if self.process is not None:
            self.process.wait(timeout=processes.KILL_SECONDS)
        self._become("stopped" if self.seen.state not in {"done", "failed"} else self.seen.state)

    def _may_start(self, now: float) -> bool:
        reason = self.service.wait() if self.service.wait else None
        if reason:
            if reason != self.seen.note:
                self.say(reason)
            self._next = now + WAIT_POLL_SECONDS
        self.seen.note = reason or ""
        return reason is None

    def _start(self, common: Mapping[str, str], cwd: Path) -> None:
        environment = {**common, **self.service.environment, MARK: self.mark}
        try:
            self.process = processes.start(
                self.service.command, environment=environment, cwd=cwd, log=self.log
            )
        except OSError as error:
            self._died(f"cannot be started: {error}")
            return
        identity = Identity.of(self.process.pid)
        self.seen.pid = self.process.pid
        self.seen.created = identity.created if identity else None
        self._started = time.monotonic()
        self._become("starting")

    def _look_at_start(self, now: float) -> None:
        process = self.process
        if process is None:
            return
        code = process.poll()
        if code is not None:
            if code == 0 and not self.service.health:
                self._become("done")
                self.say(f"done after {now - self._started:.1f} s")
            else:
                self._died(f"ended with exit code {code} before it was ready")
        elif self.service.health and answers(self.service.health):
            self.ever_healthy = True
            self._healthy_at = now
            self._become("healthy")
            self.say(f"ready after {now - self._started:.1f} s {self.service.url}".rstrip())
        elif now - self._started > self.service.timeout:
            self._died(f"was not ready within {self.service.timeout:.0f} s")

    def _died(self, what: str) -> None:
        """Clean up after it; start again later, or give up."""
        identity = self.seen.identity
        processes.end(self.mark, [identity] if identity else [], grace=0)
        if self.process is not None:
            self.process.wait(timeout=processes.KILL_SECONDS)
        if self.strict and not self.ever_healthy:
            self._become("failed")
            raise DependencyError(f"{self.service.name} {what}.", remedy=f"see {self.log}.")
        if time.monotonic() - self._healthy_at > FORGIVEN_AFTER_SECONDS:
            self.seen.restarts = 0
        if self.seen.restarts >= self.service.restarts:
            self.seen.note = f"{what}; given up after {self.seen.restarts} restarts"
            self._become("failed")
            self.say(f"{self.seen.note}, see {self.log}")
            return
        pause = min(LONGEST_BACKOFF_SECONDS, self.service.backoff * 2**self.seen.restarts)
        self.seen.restarts += 1
        self._next = time.monotonic() + pause
        self._become("backoff")
        self.say(f"{what}; restart {self.seen.restarts} of {self.service.restarts} in {pause:.1f} s")

    def _become(self, state: str) -> None:
        self.seen.state = state
        self.seen.since = iso(datetime.now(UTC))
