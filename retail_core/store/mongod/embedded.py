"""The embedded MongoDB: one `mongod` per home, started on demand, stopped when idle or on request.

Starting, adopting, stopping and the supervisor's idle stop happen under one file lock, so that concurrent
commands use one server. A file alone is never trusted: the server is the process whose id mongod wrote into
its data folder and whose command line names that folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pymongo.errors import PyMongoError

from retail_core.disk_space import full_disk, has_space
from retail_core.errors import DependencyError
from retail_core.file_locks import try_lock
from retail_core.settings import Settings
from retail_core.store.mongod import access
from retail_core.store.mongod.process import (
    RunningServer,
    ServerFiles,
    cannot_run,
    find_running,
    launch,
    locate_binary,
    requires_key,
    server_of,
)
from retail_core.store.mongod.replica_set import REPLICA_SET, initiate_replica_set, replica_set_config

IDLE_SECONDS = 900.0
PRIMARY_SECONDS = 120.0
STOP_SECONDS = 60.0
APPNAME = "retail-start"


def ensure_mongod(
    settings: Settings, *, idle_seconds: float = IDLE_SECONDS, binary: Path | None = None
) -> str:
    """Start this home's server if it does not run, wait until it accepts writes, and return its URI.

    Args:
        settings: with the home folder.
        idle_seconds: the server is stopped after this time without a client; ignored if a supervisor runs.
        binary: `mongod` to use instead of the installed one.

    Raises:
        DependencyError: the server cannot run on this machine; the message says why.
        InputError: the home cannot be written.
    """
    files = _server_files(settings)
    files.prepare()
    with files.locked():
        server = _authenticated_server(files)
        if server is not None:
            _complete_rotation(server, files)
        if server is None or server != files.recorded():
            server = server or launch(files, binary or locate_binary(files))
            _complete_rotation(server, files)
            _make_primary(server, files)
            files.write_record(server)
        _start_supervisor(files, idle_seconds)
    return files.uri(server)


def rotate_key(settings: Settings) -> Path:
    """Replace the key of this home's server, whose data stay; returns the file of the new key.

    The server is stopped, so that the next command starts it with the new key. Killed and run again, it ends
    with one key that the server accepts: until the new one is in place, both are in the folder.

    Raises:
        DependencyError: the server cannot run, or does not accept the present key.
        InputError: the home cannot be written.
    """
    ensure_mongod(settings)
    files = _server_files(settings)
    with files.locked():
        server = find_running(files)
        if server is None:
            raise cannot_run(f"it ended while its key was changed (log: {files.log}).")
        next_key = access.ensure_key(files.next_key_file)
        with access.connect(server.port, access.ensure_key(files.key_file), APPNAME) as client:
            access.change_key(client, next_key)
        files.next_key_file.replace(files.key_file)
        end_server(files)
    return files.key_file


def _complete_rotation(server: RunningServer, files: ServerFiles) -> None:
    """Put the next key in place if the server accepts it already: a rotation was killed after the change."""
    if not files.next_key_file.exists():
        return
    with access.connect(server.port, access.ensure_key(files.next_key_file), APPNAME) as client:
        if access.is_key_accepted(client):
            files.next_key_file.replace(files.key_file)


def stop_mongod(settings: Settings) -> bool:
    """Stop this home's server; True if it was running.

    Raises:
        DependencyError: it belongs to another user.
    """
    files = _server_files(settings)
    if not files.folder.is_dir():
        return False
    with files.locked():
        return end_server(files)


def mongod_status(settings: Settings) -> dict[str, str | int] | None:
    """`address, pid, port, data, log, key_file` of the running server; None if none runs. Starts nothing."""
    files = _server_files(settings)
    server = find_running(files)
    if server is None:
        return None
    return {
        "address": server.address,
        "pid": server.pid,
        "port": server.port,
        "data": str(files.data),
        "log": str(files.log),
        "key_file": str(files.key_file),
    }


def end_server(files: ServerFiles) -> bool:
    """Stop the server with SIGTERM, then SIGKILL; True if it was running. The caller holds the lock.

    Raises:
        DependencyError: it belongs to another user.
    """
    server = find_running(files)
    if server is not None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            _signal(server, sign)
            if _wait_for_end(files, server, STOP_SECONDS):
                break
    files.record.unlink(missing_ok=True)
    return server is not None


def _authenticated_server(files: ServerFiles) -> RunningServer | None:
    """The running server; one that an earlier release started without authentication is stopped first."""
    server = find_running(files)
    if server is None or requires_key(server):
        return server
    end_server(files)
    return None


def _server_files(settings: Settings) -> ServerFiles:
    return ServerFiles(settings.home_dir / "mongo")


def _signal(server: RunningServer, sign: signal.Signals) -> None:
    try:
        os.kill(server.pid, sign)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise DependencyError(
            f"The embedded MongoDB server (process {server.pid}) belongs to another user.",
            remedy="stop it as that user, or set RETAIL_HOME to a home of your own.",
        ) from error


def _wait_for_end(files: ServerFiles, server: RunningServer, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while server_of(files, server.pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _make_primary(server: RunningServer, files: ServerFiles) -> None:
    """Initiate the replica set or move its member to the server's port, and wait until it accepts writes."""
    deadline = time.monotonic() + PRIMARY_SECONDS
    problem = "it did not become primary"
    key = access.ensure_key(files.key_file)
    with (
        access.connect(server.port, key, APPNAME) as user,
        access.connect_before_first_user(server.port, APPNAME) as no_user,
    ):
        while time.monotonic() < deadline:
            try:
                has_user = access.is_key_accepted(user)
                client = user if has_user else no_user
                if client.admin.command("hello")["isWritablePrimary"]:
                    if not has_user:
                        access.create_user(no_user, key)
                    return
                _configure(client, server.address)
            except PyMongoError as error:
                problem = str(error)
                if lost := access.wrong_key(error, files.key_file):
                    raise lost from error
                if find_running(files) is None and not has_space(files.folder):
                    raise full_disk(files.folder) from error
                if find_running(files) is None:
                    raise cannot_run(f"it ended while starting (log: {files.log}).") from error
            time.sleep(0.02)
    raise cannot_run(f"{problem} (log: {files.log}).")


def _configure(client: access.Client, host_and_port: str) -> None:
    """Initiate the replica set, or move its member to `host_and_port` if it is not a member there."""
    if initiate_replica_set(client, host_and_port):
        return
    if client.admin.command("hello").get("setName") != REPLICA_SET:
        config = replica_set_config(host_and_port)
        client.admin.command("replSetReconfig", config | {"version": 1}, force=True)


def _start_supervisor(files: ServerFiles, idle_seconds: float) -> None:
    """Start the process that stops an idle server, unless it is running."""
    lock = try_lock(files.supervisor_lock)
    if lock is None:
        return
    lock.release()
    program = [
        sys.executable,
        "-m",
        "retail_core.store.mongod.idle_supervisor",
        str(files.folder),
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
