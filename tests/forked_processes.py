"""Functions that run in forked processes, which may be killed.

Starting Python and importing the packages takes seconds, so a server process imports them once and forks.
It never uses them itself: delta-rs does not work in a process that was forked after its first use.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

context = get_context("forkserver")
_preloaded: list[str] = []

REGISTRY_MODULES = (
    *("mlflow", "mlflow.artifacts", "mlflow.sklearn", "mlflow.store.db.utils"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("onnxruntime", "skops.io"),
)
"""To preload where models are registered or promoted, since they are imported by the first use only."""

Ready = Callable[[], object]


def preload(modules: Iterable[str]) -> None:
    """Import these modules once, too; before the first process of the run."""
    _preloaded.extend(modules)
    context.set_forkserver_preload(_preloaded)


preload(["tests.forked_processes"])


@dataclass(frozen=True)
class ForkedProcess:
    """A running function."""

    process: BaseProcess
    connection: Connection

    @classmethod
    def start(
        cls, function: Callable[..., object], *arguments: object, environment: Mapping[str, str] | None = None
    ) -> ForkedProcess:
        """Start `function(ready, *arguments)`, and return when it has called `ready`.

        Args:
            function: of a module, since its name is sent to the process.
            arguments: are pickled.
            environment: variables that are added.
        """
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(function, arguments, dict(environment or {}), sender))
        process.start()
        sender.close()
        assert receiver.recv() == "ready"
        return cls(process, receiver)

    def kill_after(self, seconds: float) -> bool:
        """Kill the process `seconds` from now; False if it ended before."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL

    def wait(self, seconds: float = 120) -> int:
        """The exit code of the process, which ends by itself."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, "the process has not ended"
        return code

    def result(self) -> Any:
        """What the function returns.

        Raises:
            EOFError: it ended without a result.
        """
        try:
            return self.connection.recv()
        finally:
            self.process.join()


def _run(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    environment: Mapping[str, str],
    sender: Connection,
) -> None:
    # A forked process saves no coverage.
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    os.environ.update(environment)
    sender.send(function(lambda: sender.send("ready"), *arguments))
