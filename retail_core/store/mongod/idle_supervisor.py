"""The process that stops an idle embedded server: `python -m MODULE FOLDER SECONDS`.

It detaches itself, holds the supervisor's lock until it ends, and ends when no server runs. The server is in
use while another client is connected (monitoring connections of drivers count) or a command has requested it
since the last check.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from filelock import FileLock

from retail_core.file_locks import try_lock
from retail_core.store.mongod.process import RunningServer, ServerFiles, find_running

APPNAME = "retail-supervisor"


def main() -> None:
    """Detach from the parent process and watch the server in the folder `sys.argv[1]` until it has ended."""
    files, idle_seconds = ServerFiles(Path(sys.argv[1])), float(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.chdir("/")
    lock = try_lock(files.supervisor_lock)
    if lock is not None:
        watch(files, idle_seconds, lock)


def watch(files: ServerFiles, idle_seconds: float, lock: FileLock) -> None:
    """Stop the server after `idle_seconds` without use; return when no server runs."""
    interval = min(15.0, max(0.1, idle_seconds / 8))
    last_use: tuple[object, ...] = ()
    idle_since = time.monotonic()
    while True:
        server = find_running(files)
        if server is None:
            if _release_lock(files, lock):
                return
            continue
        used = files.used.stat().st_mtime_ns if files.used.exists() else 0
        current_use = (server.pid, used)
        if _has_clients(files, server) or current_use != last_use:
            last_use, idle_since = current_use, time.monotonic()
        elif time.monotonic() - idle_since >= idle_seconds:
            _stop_if_still_idle(files, server, used)
        _sleep_while_running(files, interval)


def _release_lock(files: ServerFiles, lock: FileLock) -> bool:
    """Release the supervisor's lock unless a command has started a server since; True if released.

    A command that starts a server holds the same main lock while it checks for a supervisor, so it cannot
    rely on this one while this one ends.
    """
    with files.locked():
        if find_running(files) is not None:
            return False
        lock.release()
        return True


def _stop_if_still_idle(files: ServerFiles, server: RunningServer, used: int) -> None:
    from retail_core.store.mongod.embedded import end_server

    with files.locked():
        if files.used.stat().st_mtime_ns == used and not _has_clients(files, server):
            end_server(files)


def _has_clients(files: ServerFiles, server: RunningServer) -> bool:
    """Whether another client is connected; a server that does not answer counts as in use."""
    from pymongo.errors import PyMongoError

    from retail_core.store.mongod import access

    # A connection without metadata is a new one, which may be a further one of this client.
    is_named = {"client": {"$exists": True}, "clientMetadata": {"$exists": True}}
    stages: list[dict[str, object]] = [
        {"$currentOp": {"allUsers": True, "idleConnections": True}},
        {"$match": is_named | {"appName": {"$ne": APPNAME}}},
        {"$limit": 1},
    ]
    try:
        key = access.ensure_key(files.key_file)
        with access.connect(server.port, key, APPNAME) as client:
            return bool(list(client.admin.aggregate(stages)))
    except (OSError, PyMongoError):
        return True


def _sleep_while_running(files: ServerFiles, seconds: float) -> None:
    """Sleep until `seconds` have passed or the server has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and find_running(files) is not None:
        time.sleep(min(0.5, seconds))


if __name__ == "__main__":
    main()
