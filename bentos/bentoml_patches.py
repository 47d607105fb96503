"""Changes to BentoML's internals, applied when the service is imported, in each of its processes.

BentoML has no setting for any of them.
"""

from __future__ import annotations

import socket
from typing import Any

import uvicorn
from bentoml._internal.utils import circus

from bentos.http.server import ServiceServer, stop_listening
from bentos.supervision import SHUTDOWN_SECONDS


class BoundedArbiter(circus.Arbiter):
    """The main process, which refuses new connections and ends its workers within `SHUTDOWN_SECONDS`.

    BentoML keeps the port open while its workers end, for which it gives them a day.
    """

    def stop(self) -> Any:
        """Begin the shutdown; returns circus's future."""
        for listener in self.sockets.values():
            if listener.family != socket.AF_UNIX:
                stop_listening(listener)
        for watcher in self.watchers:
            watcher.graceful_timeout = SHUTDOWN_SECONDS
        return super().stop()


def apply() -> None:
    """Serve by `ServiceServer`; end in time."""
    uvicorn.Server = ServiceServer  # type: ignore[misc]
    circus.Arbiter = BoundedArbiter  # type: ignore[misc]
