"""State file, lock and logs of the stack of a home."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from retail_core.errors import InputError
from retail_core.file_locks import create_private_folder, try_lock, write_atomically
from retail_core.stack.processes import Identity


@dataclass
class ServiceState:
    """State of one service as its supervisor last recorded it. Times are ISO 8601 UTC."""

    state: str = "waiting"
    pid: int | None = None
    created: float | None = None
    port: int | None = None
    url: str = ""
    health: str = ""
    log: str = ""
    since: str = ""
    restarts: int = 0
    note: str = ""

    @property
    def identity(self) -> Identity | None:
        """Identity of the process; None before it was started."""
        if self.pid is None or self.created is None:
            return None
        return Identity(self.pid, self.created)


@dataclass
class StackState:
    """State of the stack: its id, its supervisor process and its services."""

    id: str
    pid: int
    created: float
    since: str
    ready: bool = False
    services: dict[str, ServiceState] = field(default_factory=dict)

    @property
    def supervisor(self) -> Identity:
        """The process that runs `up`."""
        return Identity(self.pid, self.created)

    @property
    def leaders(self) -> list[Identity]:
        """Main processes of the services, the last started first."""
        identities = [service.identity for service in self.services.values()]
        return [identity for identity in reversed(identities) if identity is not None]


@dataclass(frozen=True)
class StackFiles:
    """Paths of the stack's files in a home."""

    home: Path

    @property
    def state(self) -> Path:
        """State file; absent while no stack runs and none was killed."""
        return self.home / "stack.json"

    @property
    def _resolved_home(self) -> str:
        return str(self.home.resolve())

    @property
    def lock(self) -> Path:
        """Lock file held by `up`; the kernel releases the lock however the process ends."""
        return self.home / "stack.lock"

    @property
    def logs(self) -> Path:
        """Folder with one log file per service."""
        return self.home / "logs"

    def prepare(self) -> None:
        """Create the folders.

        Raises:
            InputError: the home cannot be written.
        """
        try:
            create_private_folder(self.logs)
        except OSError as error:
            raise InputError(
                f"{self.home} cannot be written: {error.strerror}.",
                remedy="set RETAIL_HOME to a folder you may write to.",
            ) from error

    def read(self) -> StackState | None:
        """The state last written; None where there is none or it cannot be parsed.

        Also None where it was copied with the folder: its processes are those of another home.
        """
        try:
            content = json.loads(self.state.read_text())
            services = {name: ServiceState(**service) for name, service in content.pop("services").items()}
            home = content.pop("home", self._resolved_home)
            state = StackState(**content, services=services)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return state if home == self._resolved_home else None

    def write(self, state: StackState) -> None:
        """Replace the state file atomically."""
        content = asdict(state) | {"home": self._resolved_home}
        write_atomically(self.state, json.dumps(content, indent=1))

    def remove_state(self) -> None:
        """Remove the state file: no stack runs any more."""
        self.state.unlink(missing_ok=True)

    @contextmanager
    def exclusive(self, wait: float = 1.0) -> Iterator[bool]:
        """Acquire the lock, waiting at most `wait` seconds; yields whether it was acquired."""
        self.prepare()
        lock = try_lock(self.lock, wait_seconds=wait)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()

    def running(self) -> bool:
        """Whether an `up` of this home is alive."""
        if not self.lock.exists():
            return False
        with self.exclusive(wait=0) as acquired:
            return not acquired


def rotate(log: Path, keep: int = 3) -> None:
    """Start a new log file; the last `keep` ones stay as `.1`, `.2`, `.3`."""
    for number in range(keep, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)


def last_lines(log: Path, lines: int = 15) -> list[str]:
    """Last lines of a log; empty where it does not exist."""
    try:
        with log.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - 16_384))
            text = handle.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]
