"""The process that stops an idle embedded server: `python -m MODULE FOLDER SECONDS`.

It detaches itself, holds the supervisor's lock while it lives, and leaves when no server runs. In use
means: some client other than this one is connected (a driver's monitoring connections count), clients
have come and gone since the last look, or a command has asked for the server.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from filelock import FileLock

from retail_core.file_locks import try_lock
from retail_core.store.mongod.process import Place, Server, find_running

APPNAME = "retail-supervisor"


def main() -> None:
    """Detach from whoever started this and watch until there is nothing left to watch."""
    place, idle_seconds = Place(Path(sys.argv[1])), float(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.chdir("/")
    lock = try_lock(place.supervisor_lock)
    if lock is not None:
        watch(place, idle_seconds, lock)


def watch(place: Place, idle_seconds: float, lock: FileLock) -> None:
    """Stop the server after `idle_seconds` without use; return when none runs any more."""
    interval = min(15.0, max(0.1, idle_seconds / 8))
    seen: tuple[object, ...] = ()
    since = time.monotonic()
    while True:
        server = find_running(place)
        if server is None:
            if _leave(place, lock):
                return
            continue
        used = place.used.stat().st_mtime_ns if place.used.exists() else 0
        clients = _clients(server)
        now = (server.pid, used)
        if clients or now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since >= idle_seconds:
            _stop_if_still_idle(place, server, used)
        _sleep(place, interval)


def _leave(place: Place, lock: FileLock) -> bool:
    """Give up the lock, unless a command has started a server meanwhile. True when given up.

    A command that starts a server holds the same main lock while it looks for a supervisor, so there
    is no moment in which it counts on this one and this one leaves.
    """
    with place.locked():
        if find_running(place) is not None:
            return False
        lock.release()
        return True


def _stop_if_still_idle(place: Place, server: Server, used: int) -> None:
    from retail_core.store.mongod.embedded import end_server

    with place.locked():
        if place.used.stat().st_mtime_ns == used and not _clients(server):
            end_server(place)


def _clients(server: Server) -> bool:
    """Whether anybody else is connected; a server that does not answer counts as in use."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    stages: list[dict[str, object]] = [
        {"$currentOp": {"allUsers": True, "idleConnections": True}},
        {"$match": {"client": {"$exists": True}, "appName": {"$ne": APPNAME}}},
        {"$limit": 1},
    ]
    try:
        with MongoClient[dict[str, object]](
            "127.0.0.1", server.port, directConnection=True, appname=APPNAME, serverSelectionTimeoutMS=5_000
        ) as client:
            return bool(list(client.admin.aggregate(stages)))
    except PyMongoError:
        return True


def _sleep(place: Place, seconds: float) -> None:
    """Sleep, but not on after the server has gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and find_running(place) is not None:
        time.sleep(min(0.5, seconds))


if __name__ == "__main__":
    main()
