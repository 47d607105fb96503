"""The embedded MongoDB: a real `mongod`, one per home, started on demand, stopped when idle or asked.

Starting, adopting, stopping and the supervisor's idle stop all happen under one file lock, so that any
number of commands at once end up with one server. Nothing is believed from a file alone: the server is
the process whose pid mongod wrote into its own data folder and whose command line names that folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from retail_core.errors import DependencyError
from retail_core.file_locks import try_lock
from retail_core.settings import Settings
from retail_core.store.mongod.process import (
    Place,
    Server,
    cannot_run,
    find_running,
    launch,
    locate_binary,
    server_of,
)

IDLE_SECONDS = 900.0
PRIMARY_SECONDS = 120.0
STOP_SECONDS = 60.0
_NOT_INITIALIZED = 94


def ensure_mongod(
    settings: Settings, *, idle_seconds: float = IDLE_SECONDS, binary: Path | None = None
) -> str:
    """The URI of this home's server, which is primary and accepts writes; starts it when it does not run.

    Args:
        settings: says where the home is.
        idle_seconds: the server is stopped after so long without a client; only a supervisor started by
            this call takes it over.
        binary: another mongod than the installed one.

    Raises:
        DependencyError: the server cannot run here; the text says why and what else to do.
        InputError: the home cannot be written.
    """
    place = _place(settings)
    place.prepare()
    with place.locked():
        server = find_running(place)
        if server is None or server != place.recorded():
            server = server or launch(place, binary or locate_binary(place))
            _make_primary(server, place)
            place.write_record(server)
        _start_supervisor(place, idle_seconds)
    return server.uri


def stop_mongod(settings: Settings) -> bool:
    """Stop this home's server cleanly; True when one was running."""
    place = _place(settings)
    if not place.folder.is_dir():
        return False
    with place.locked():
        return end_server(place)


def mongod_status(settings: Settings) -> dict[str, str | int] | None:
    """`uri, pid, port, data, log` of the running server; None when none runs. Starts nothing."""
    place = _place(settings)
    server = find_running(place)
    if server is None:
        return None
    return {
        "uri": server.uri,
        "pid": server.pid,
        "port": server.port,
        "data": str(place.data),
        "log": str(place.log),
    }


def end_server(place: Place) -> bool:
    """End the server, politely and then by force; the caller holds the lock. True when one was running.

    Raises:
        DependencyError: it belongs to another user.
    """
    server = find_running(place)
    if server is not None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            _signal(server, sign)
            if _gone(place, server, STOP_SECONDS):
                break
    place.record.unlink(missing_ok=True)
    return server is not None


def _place(settings: Settings) -> Place:
    return Place(settings.home_dir / "mongo")


def _signal(server: Server, sign: signal.Signals) -> None:
    try:
        os.kill(server.pid, sign)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise DependencyError(
            f"The embedded MongoDB server (process {server.pid}) belongs to another user.",
            remedy="stop it as that user, or set RETAIL_HOME to a home of your own.",
        ) from error


def _gone(place: Place, server: Server, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while server_of(place, server.pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _make_primary(server: Server, place: Place) -> None:
    """Initiate the replica set, or move its only member to this port; wait until writes are accepted."""
    deadline = time.monotonic() + PRIMARY_SECONDS
    problem = "it did not become primary"
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1",
        server.port,
        directConnection=True,
        serverSelectionTimeoutMS=5_000,
        appname="retail-start",
    )
    with client:
        while time.monotonic() < deadline:
            try:
                if client.admin.command("hello")["isWritablePrimary"]:
                    return
                _configure(client, f"127.0.0.1:{server.port}")
            except PyMongoError as error:
                problem = str(error)
                if find_running(place) is None:
                    raise cannot_run(f"it ended while starting (log: {place.log}).") from error
            time.sleep(0.02)
    raise cannot_run(f"{problem} (log: {place.log}).")


def _configure(client: MongoClient[dict[str, Any]], member: str) -> None:
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != _NOT_INITIALIZED:
            raise
        config = {"_id": "rs0", "members": [{"_id": 0, "host": member}]}
        client.admin.command("replSetInitiate", config)
        return
    if [one["host"] for one in config["members"]] != [member]:
        config["members"] = [{"_id": 0, "host": member}]
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)


def _start_supervisor(place: Place, idle_seconds: float) -> None:
    """Start the process that stops an idle server, unless one holds the supervisor's lock."""
    lock = try_lock(place.supervisor_lock)
    if lock is None:
        return
    lock.release()
    program = [
        sys.executable,
        "-m",
        "retail_core.store.mongod.idle_supervisor",
        str(place.folder),
        str(idle_seconds),
    ]
    subprocess.run(
        program,
        cwd=Path(__file__).parents[3],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    )
