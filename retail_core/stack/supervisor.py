"""Runs a set of services until told to stop. Knows nothing about what they are."""

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
class Surroundings:
    """What every service starts with.

    Args:
        files: where state and logs go.
        environment: the common environment.
        cwd: the common working directory.
        echo: takes lines for a person.
        tick: called every ten seconds while the services run.
    """

    files: StackFiles
    environment: Mapping[str, str]
    cwd: Path
    echo: Callable[[str], None]
    tick: Callable[[], None] = lambda: None


class Stop:
    """Set by SIGINT, SIGTERM or SIGHUP; the second one means at once."""

    def __init__(self) -> None:
        self.reason = ""
        self.at_once = False

    def __call__(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler."""
        self.at_once = bool(self.reason)
        self.reason = self.reason or signal.Signals(number).name

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While inside, the signals set this instead of ending the process."""
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
    """Before anything starts: every port must be free and wanted once.

    Raises:
        InputError: two services are set to one port.
        DependencyError: somebody listens on one.
    """
    wanted: dict[int, str] = {}
    for service in services:
        if service.port is None:
            continue
        if service.port in wanted:
            raise InputError(
                f"{wanted[service.port]} and {service.name} are both set to port {service.port}.",
                remedy=f"set {service.variable} to another port.",
            )
        wanted[service.port] = service.name
        if not port_is_free(service.host, service.port):
            raise DependencyError(
                f"Port {service.port} for {service.name} is in use by {processes.port_holder(service.port)}.",
                remedy=f"end it, or set {service.variable} to a free port.",
            )


class Supervisor:
    """Starts services in the order of their dependencies, keeps them alive, ends them all.

    Args:
        services: what to run.
        state: is kept up to date and written to `around.files` at every change.
        around: what they share.
        stop: ends `run` when set.
    """

    def __init__(
        self, services: Sequence[Service], state: StackState, around: Surroundings, stop: Stop
    ) -> None:
        self.state = state
        self.around = around
        self.stop = stop
        self._written: StackState | None = None
        self._next_tick = time.monotonic() + TICK_SECONDS
        self.children: list[Child] = []
        for service in services:
            log = around.files.logs / f"{service.name}.log"
            rotate(log)
            say = self._speaker(service.name)
            self.children.append(Child(service, mark=f"{state.id}/{service.name}", log=log, say=say))

    def run(self, on_ready: Callable[[], None]) -> str:
        """Run until stopped; returns the name of the signal that asked for it.

        Raises:
            DependencyError: a service did not come up at the first start; the rest has been ended.
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
                if child.seen.state == "failed":
                    self._show_log(child)
            raise
        finally:
            self._end()
        return self.stop.reason

    def _step(self) -> None:
        usable = {child.service.name for child in self.children if child.usable}
        for child in self.children:
            before = child.seen.state
            if before != "waiting" or usable.issuperset(child.service.after):
                child.strict = not self.state.ready
                child.step(self.around.environment, self.around.cwd)
            if child.seen.state == "failed" != before:
                self._show_log(child)
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_SECONDS
            self.around.tick()

    def _end(self) -> None:
        """End every service, dependents before what they depend on, then whatever is left of any."""
        asked: dict[str, float] = {}
        while remaining := [child for child in self.children if not child.ended()]:
            needed = {name for child in remaining for name in child.service.after}
            for child in remaining:
                name = child.service.name
                if name not in asked and name not in needed:
                    child.terminate()
                    asked[name] = time.monotonic()
                elif name in asked and (
                    self.stop.at_once or time.monotonic() - asked[name] > child.service.grace
                ):
                    child.sweep(linger=0)
            time.sleep(0.02)
        for child in self.children:
            if child.process is not None:
                child.sweep(linger=0 if self.stop.at_once else processes.LINGER_SECONDS)
        self._write()

    def _show_log(self, child: Child) -> None:
        lines = last_lines(child.log)
        self.around.echo(f"last lines of {child.log}:" if lines else f"{child.log} is empty")
        for line in lines:
            self.around.echo(f"  {line}")

    def _speaker(self, name: str) -> Callable[[str], None]:
        def say(text: str) -> None:
            self.around.echo(f"{name:<12} {text}")

        return say

    def _write(self) -> None:
        own: dict[str, ServiceState] = {child.service.name: child.seen for child in self.children}
        self.state.services.update(own)
        if self.state != self._written:
            self._written = deepcopy(self.state)
            self.around.files.write(self.state)
