"""What a running stack writes down about itself: `<home>/stack.json`, and the lock that makes it one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from retail_core.errors import InputError
from retail_core.file_locks import try_lock, write_atomically
from retail_core.stack.processes import Identity


@dataclass
class ServiceState:
    """One service as last seen by its supervisor. Times are ISO 8601 UTC."""

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
        """The process; None before it was started."""
        if self.pid is None or self.created is None:
            return None
        return Identity(self.pid, self.created)


@dataclass
class StackState:
    """The whole stack: who supervises it, under which id its processes are marked, and its services."""

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
        """The services' first processes, the last started first."""
        found = [service.identity for service in self.services.values()]
        return [one for one in reversed(found) if one is not None]


@dataclass(frozen=True)
class StackFiles:
    """Where a home keeps what belongs to the stack."""

    home: Path

    @property
    def state(self) -> Path:
        """The state; absent while nothing runs and nothing was left behind."""
        return self.home / "stack.json"

    @property
    def lock(self) -> Path:
        """Held by `up` as long as it lives; the kernel frees it however it ends."""
        return self.home / "stack.lock"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.home / "logs"

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            InputError: the home cannot be written.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.home} cannot be written: {error.strerror}.",
                remedy="set RETAIL_HOME to a folder you may write to.",
            ) from error

    def read(self) -> StackState | None:
        """The state last written; None when there is none or it is not ours."""
        try:
            content = json.loads(self.state.read_text())
            services = {name: ServiceState(**one) for name, one in content.pop("services").items()}
            return StackState(**content, services=services)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def write(self, state: StackState) -> None:
        """Replace the state in one step."""
        write_atomically(self.state, json.dumps(asdict(state), indent=1))

    def forget(self) -> None:
        """Nothing runs any more."""
        self.state.unlink(missing_ok=True)

    @contextmanager
    def alone(self, wait: float = 1.0) -> Iterator[bool]:
        """Take the lock, waiting at most `wait` seconds; yields whether it was got."""
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
        with self.alone(wait=0) as got:
            return not got


def rotate(log: Path, keep: int = 3) -> None:
    """Begin a new log file and keep the last few as `.1`, `.2`, `.3`."""
    for number in range(keep, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        newer = log if number == 1 else log.with_name(f"{log.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)


def last_lines(log: Path, lines: int = 15) -> list[str]:
    """The end of a log, for a person; empty when there is none."""
    try:
        with log.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - 16_384))
            text = handle.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:]
