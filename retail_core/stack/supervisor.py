"""Supervision of a set of services: start in order, health, restarts, orderly end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from retail_core.errors import DependencyError, InputError
from retail_core.stack import processes
from retail_core.stack.child import Child, Service
from retail_core.stack.state import ServiceState, StackFiles, StackState, last_lines, rotate
from retail_core.subprocesses import port_is_free

POLL_SECONDS = 0.1
TICK_SECONDS = 10.0


@dataclass(frozen=True)
class SharedContext:
    """What all services share.

    Args:
        files: paths of state and logs.
        environment: the common environment.
        cwd: the common working directory.
        echo: receives messages for people.
        tick: called every TICK_SECONDS while the services run.
    """

    files: StackFiles
    environment: Mapping[str, str]
    cwd: Path
    echo: Callable[[str], None]
    tick: Callable[[], None] = lambda: None


class Stop:
    """Stop request, set by SIGINT, SIGTERM or SIGHUP; a second signal skips the grace period."""

    def __init__(self) -> None:
        self.reason = ""
        self.immediate = False

    def __call__(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler."""
        self.immediate = bool(self.reason)
        self.reason = self.reason or signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals while inside."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def refuse_busy_ports(services: Sequence[Service]) -> None:
    """Check that every port is free and used by one service only.

    Raises:
        InputError: two services are set to one port.
        DependencyError: another process listens on one.
    """
    names_by_port: dict[int, str] = {}
    for service in services:
        if service.port is None:
            continue
        if service.port in names_by_port:
            raise InputError(
                f"{names_by_port[service.port]} and {service.name} are both set to port {service.port}.",
                remedy=f"set {service.variable} to another port.",
            )
        names_by_port[service.port] = service.name
        if not port_is_free(service.host, service.port):
            raise DependencyError(
                f"Port {service.port} for {service.name} is in use by {processes.port_holder(service.port)}.",
                remedy=f"end it, or set {service.variable} to a free port.",
            )


class Supervisor:
    """Starts services in the order of their dependencies, restarts failed ones, ends them all.

    Args:
        services: services to run.
        state: updated, and written to `shared.files` at every change.
        shared: what all services share.
        stop: ends `run` when set.
    """

    def __init__(
        self, services: Sequence[Service], state: StackState, shared: SharedContext, stop: Stop
    ) -> None:
        self.state = state
        self.shared = shared
        self.stop = stop
        self._written: StackState | None = None
        self._next_tick = time.monotonic() + TICK_SECONDS
        self.children: list[Child] = []
        for service in services:
            log = shared.files.logs / f"{service.name}.log"
            rotate(log)
            report = self._reporter(service.name)
            self.children.append(Child(service, mark=f"{state.id}/{service.name}", log=log, report=report))

    def run(self, on_ready: Callable[[], None]) -> str:
        """Run until stopped; returns the name of the signal that stopped it.

        Raises:
            DependencyError: the first start of a service failed; all services have been ended.
        """
        try:
            while not self.stop.reason:
                self._step()
                self._write()
                if not self.state.ready and all(child.settled for child in self.children):
                    self.state.ready = True
                    self._write()
                    on_ready()
                time.sleep(POLL_SECONDS)
        except DependencyError:
            for child in self.children:
                if child.status.state == "failed":
                    self._show_log(child)
            raise
        finally:
            self._end()
        return self.stop.reason

    def _step(self) -> None:
        usable = {child.service.name for child in self.children if child.usable}
        for child in self.children:
            before = child.status.state
            if before != "waiting" or usable.issuperset(child.service.after):
                child.strict = not self.state.ready
                child.step(self.shared.environment, self.shared.cwd)
            if child.status.state == "failed" != before:
                self._show_log(child)
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_SECONDS
            self.shared.tick()

    def _end(self) -> None:
        """End every service, dependents first, then every remaining process."""
        terminated_at: dict[str, float] = {}
        while remaining := [child for child in self.children if not child.ended()]:
            depended_on = {name for child in remaining for name in child.service.after}
            for child in remaining:
                name = child.service.name
                if name not in terminated_at and name not in depended_on:
                    child.terminate()
                    terminated_at[name] = time.monotonic()
                elif name in terminated_at and (
                    self.stop.immediate or time.monotonic() - terminated_at[name] > child.service.grace
                ):
                    child.sweep(linger=0)
            time.sleep(0.02)
        for child in self.children:
            if child.process is not None:
                child.sweep(linger=0 if self.stop.immediate else processes.LINGER_SECONDS)
        self._write()

    def _show_log(self, child: Child) -> None:
        lines = last_lines(child.log)
        self.shared.echo(f"last lines of {child.log}:" if lines else f"{child.log} is empty")
        for line in lines:
            self.shared.echo(f"  {line}")

    def _reporter(self, name: str) -> Callable[[str], None]:
        def report(text: str) -> None:
            self.shared.echo(f"{name:<12} {text}")

        return report

    def _write(self) -> None:
        states: dict[str, ServiceState] = {child.service.name: child.status for child in self.children}
        self.state.services.update(states)
        if self.state != self._written:
            self._written = deepcopy(self.state)
            self.shared.files.write(self.state)
