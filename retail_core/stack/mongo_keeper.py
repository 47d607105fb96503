"""Restarts the embedded MongoDB if it stops while the stack runs, and prevents its idle shutdown."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from retail_core.errors import RetailError
from retail_core.settings import Settings
from retail_core.stack.state import ServiceState, StackState
from retail_core.store.mongod.embedded import ensure_mongod, mongod_status
from retail_core.times import iso

MONGODB = "mongodb"


class MongoKeeper:
    """Called periodically; starts the server if it does not run and records it in `state`."""

    def __init__(self, settings: Settings, state: StackState, echo: Callable[[str], None]) -> None:
        self.settings = settings
        self.state = state
        self.echo = echo

    def __call__(self) -> None:
        """Start the server if it does not run; this also resets its idle timer."""
        if self.settings.mongodb_uri is not None:
            return
        started = time.perf_counter()
        before = self.state.services.get(MONGODB)
        try:
            ensure_mongod(self.settings)
        except RetailError as error:
            if before is None:
                raise
            self.echo(f"{MONGODB:<12} {error}")
            return
        server = mongod_status(self.settings)
        if server is None or (before is not None and before.pid == server["pid"]):
            return
        pid, port = int(server["pid"]), int(server["port"])
        # Without `created`, the stack never kills it: other commands may be using the same server.
        self.state.services[MONGODB] = ServiceState(
            state="healthy",
            pid=pid,
            port=port,
            health=f"http://127.0.0.1:{port}/",
            log=str(server["log"]),
            since=iso(datetime.now(UTC)),
            restarts=before.restarts + 1 if before else 0,
        )
        self.echo(f"{MONGODB:<12} ready after {time.perf_counter() - started:.1f} s (port {port})")
