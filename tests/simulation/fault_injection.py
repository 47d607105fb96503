"""Faults at the interfaces to MongoDB, the lake and the model registry, at a stated call.

A simulated kill raises `SimulatedKill`, which nothing catches, and from then on every call of an interface
raises it too, so that no cleanup of the dying command reaches the outside. The next command counts as another
process: leases tell it from the dead one by the time at which the process was born.
"""

from __future__ import annotations

import errno
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from typing import Any
from unittest.mock import patch

from pymongo.errors import AutoReconnect, ExecutionTimeout
from pymongo.synchronous import command_runner

from retail_core.errors import DependencyError
from retail_core.registry import versions
from retail_core.store.lake import erase, links, prediction_table, table
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.mongo import leases

undo_module = import_module("retail_core.ingest.undo")
"""The package has a function of this name."""


class SimulatedKill(BaseException):
    """The process ends here."""


class Interface(StrEnum):
    """Where a fault happens."""

    MONGODB = "mongodb"
    LAKE = "lake"
    REGISTRY = "registry"


class Kind(StrEnum):
    """What happens at the call, before or after it takes effect."""

    KILL = "kill"
    ERROR = "error"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        interface: where.
        kind: what.
        call: number of the call since the command began, from 0.
        after: whether the call takes effect first.
        repeats: number of successive calls that fail.
    """

    interface: Interface
    kind: Kind
    call: int
    after: bool
    repeats: int = 1


_ERRORS: dict[tuple[Interface, Kind], Callable[[], Exception]] = {
    (Interface.MONGODB, Kind.ERROR): lambda: AutoReconnect("simulated loss of the connection"),
    (Interface.MONGODB, Kind.TIMEOUT): lambda: ExecutionTimeout("simulated timeout", code=50),
    (Interface.LAKE, Kind.ERROR): lambda: OSError(errno.ENOSPC, "No space left on device"),
    (Interface.LAKE, Kind.TIMEOUT): lambda: OSError(errno.ETIMEDOUT, "Connection timed out"),
    (Interface.REGISTRY, Kind.ERROR): lambda: DependencyError("simulated failure", remedy="repeat"),
    (Interface.REGISTRY, Kind.TIMEOUT): lambda: DependencyError("simulated timeout", remedy="repeat"),
}

_CONNECTING = {
    "hello",
    "isMaster",
    "ismaster",
    "saslStart",
    "saslContinue",
    "ping",
    "endSessions",
    "killCursors",
}
"""Commands of connections, which drivers send at times of their own."""


@dataclass
class FaultInjector:
    """Counts the calls of each interface and makes the armed fault happen.

    Attributes:
        fault: what is going to happen; None: nothing.
        is_dead: whether the present command was killed.
        happened: number of faults so far, by interface and kind.
        calls: number of calls of the present command, by interface.
    """

    fault: Fault | None = None
    is_dead: bool = False
    happened: Counter[tuple[Interface, Kind]] = field(default_factory=Counter)
    calls: Counter[Interface] = field(default_factory=Counter)
    _restarts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, fault: Fault | None) -> None:
        """A new process begins, with this fault ahead of it."""
        self.fault, self.is_dead = fault, False
        self.calls.clear()
        self._restarts += 1

    def call(self, interface: Interface, function: Callable[[], Any]) -> Any:
        """Call the function of an interface, or let it fail."""
        due = self._due(interface)
        if due is None:
            return function()
        if due.after:
            function()
        self.happened[(interface, due.kind)] += 1
        if due.kind is Kind.KILL:
            self.is_dead = True
            raise SimulatedKill
        raise _ERRORS[interface, due.kind]()

    def _due(self, interface: Interface) -> Fault | None:
        with self._lock:
            if self.is_dead:
                raise SimulatedKill
            number = self.calls[interface]
            self.calls[interface] += 1
            fault = self.fault
            if fault is None or fault.interface is not interface:
                return None
            return fault if 0 <= number - fault.call < fault.repeats else None

    def born(self, process_start_time: Callable[[int], float | None], pid: int) -> float | None:
        """When a process was born: each restart of the simulated one counts as another."""
        time = process_start_time(pid)
        return None if time is None else time + 10.0 * self._restarts

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let the interfaces of this process go through the injector."""
        with ExitStack() as stack:
            for owner, name, interface in (
                (LakeTable, "commit", Interface.LAKE),
                *(
                    (module, "write_file", Interface.LAKE)
                    for module in (erase, links, prediction_table, table)
                ),
                (versions, "set_production", Interface.REGISTRY),
            ):
                through = self._through(getattr(owner, name), interface)
                stack.enter_context(patch.object(owner, name, through))
            stack.enter_context(patch.object(undo_module, "WAIT_SECONDS", 0.0))
            run_command = command_runner._run_command
            stack.enter_context(patch.object(command_runner, "_run_command", self._of_mongodb(run_command)))
            born, of_process = self.born, leases._process_start_time
            stack.enter_context(
                patch.object(leases, "_process_start_time", lambda pid: born(of_process, pid))
            )
            yield

    def _through(self, function: Callable[..., Any], interface: Interface) -> Callable[..., Any]:
        def through(*arguments: Any, **named: Any) -> Any:
            return self.call(interface, lambda: function(*arguments, **named))

        return through

    def _of_mongodb(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def of_mongodb(connection: Any, command: Any, *arguments: Any, **named: Any) -> Any:
            def send() -> Any:
                return function(connection, command, *arguments, **named)

            is_own = next(iter(command)) in _CONNECTING or "pymongo" in threading.current_thread().name
            return send() if is_own else self.call(Interface.MONGODB, send)

        return of_mongodb
