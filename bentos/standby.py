"""Whose turn it is to answer: one real-time process does, another stands by with its model loaded.

BentoML starts a killed worker anew, which takes it as long as any start. So there are two of them, and a lock
that the kernel frees in the instant its holder dies: the one that has it accepts connections, and the other
waits for it at the end of its start. Connections made meanwhile wait in the socket that both inherited.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import bentoml
import psutil

LOOK_SECONDS = 0.05
START_SECONDS = 120.0
"""So long the first process may take to start before the other one stops waiting for it."""

LEAST_MEMORY = 1536 * 1024 * 1024
"""Bytes a container must be allowed for two real-time processes beside BentoML's own and the batch runner."""

NAME = "api-{supervisor}.lock"

log = logging.getLogger("bentoml.serve")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Turn:
    """The turn of one service, told from others of its folder by the process that started its workers.

    Its file is made when the turn is first asked for; files of services that are gone are removed then.
    """

    def __init__(self, supervisor: int, folder: Path) -> None:
        self._path = folder / NAME.format(supervisor=supervisor)
        self._file: int | None = None

    def take(self) -> bool:
        """Take it if nobody has it; it is kept until this process ends."""
        return _lock(self._opened())

    def _opened(self) -> int:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove_left_over(self._path.parent)
            self._file = _open(self._path)
        return self._file

    async def wait(self) -> bool:
        """Take it as soon as nobody has it; whether somebody had."""
        if self.take():
            return False
        log.info("This process stands by.")
        while not self.take():
            await asyncio.sleep(LOOK_SECONDS)
        return True

    def after_the_first(self) -> None:
        """Wait until another process answers, so that loading a model twice does not delay the first."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if not self.take():
                return
            fcntl.flock(self._opened(), fcntl.LOCK_UN)
            time.sleep(LOOK_SECONDS)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_left_over(folder: Path) -> None:
    """Remove files that nobody holds and whose service is gone (or in another container, and starting)."""
    for path in folder.glob(NAME.format(supervisor="*")):
        supervisor = path.stem.removeprefix("api-")
        if not supervisor.isdigit() or psutil.pid_exists(int(supervisor)):
            continue
        with suppress(OSError):
            file = _open(path)
            if _lock(file):
                path.unlink()
            os.close(file)


def room_for_two(limits: Iterable[Path] = _LIMITS) -> bool:
    """Whether the memory limit of this container (control groups 2 or 1), if it has one, allows a second."""
    for file in limits:
        with suppress(OSError):
            text = file.read_text().strip()
            return not text.isdigit() or int(text) >= LEAST_MEMORY
    return True


def is_second() -> bool:
    """Whether BentoML started this process as the second of its kind."""
    return (bentoml.server_context.worker_index or 1) > 1
