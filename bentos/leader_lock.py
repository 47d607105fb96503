"""The leader lock: one real-time process serves, a second one stands by with its model loaded.

BentoML restarts a killed worker, which takes as long as any start. So two workers run, and share a file lock
that the kernel releases at the moment its holder dies: the holder accepts connections, and the other one
waits for the lock at the end of its start. Meanwhile new connections wait in the socket that both inherited.
"""

from __future__ import annotations

import asyncio
import fcntl
import glob
import logging
import os
import platform
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import bentoml
import psutil

POLL_SECONDS = 0.05
START_TIMEOUT_SECONDS = 120.0
"""How long the second process waits for the first one to start."""

MIN_MEMORY_BYTES = 1536 * 1024 * 1024
"""Memory that a container needs for two real-time processes beside BentoML's own and the batch runner."""

FILE_NAME = "api-{host}-{supervisor}.lock"
"""Containers that share a folder have equal process ids and host names of their own."""

log = logging.getLogger("bentoml.serve")
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class LeaderLock:
    """A lock between the workers of one service, which is identified by the process that started them.

    Its file is created at the first attempt to acquire it, when files of services that are gone are removed.

    Args:
        supervisor: process id of the workers' parent.
        folder: where the lock files are.
        host: name of this machine or container.
    """

    def __init__(self, supervisor: int, folder: Path, host: str = platform.node()) -> None:
        self._host = host
        self._path = folder / FILE_NAME.format(host=host, supervisor=supervisor)
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Acquire the lock if it is free; it is held until this process ends."""
        return _try_lock(self._opened())

    def _opened(self) -> int:
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_files(self._path.parent, self._host)
            self._descriptor = _open(self._path)
        return self._descriptor

    async def wait(self) -> bool:
        """Acquire the lock as soon as it is free; returns whether another process held it."""
        if self.try_acquire():
            return False
        log.info("This process stands by.")
        while not self.try_acquire():
            await asyncio.sleep(POLL_SECONDS)
        return True

    def wait_for_other_holder(self) -> None:
        """Block until another process holds the lock, so that two starts do not compete for the cores."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not self.try_acquire():
                return
            fcntl.flock(self._opened(), fcntl.LOCK_UN)
            time.sleep(POLL_SECONDS)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_stale_files(folder: Path, host: str) -> None:
    """Remove unlocked files of this host whose supervisor is gone."""
    prefix = FILE_NAME.format(host=host, supervisor="").removesuffix(".lock")
    for path in folder.glob(f"{glob.escape(prefix)}*.lock"):
        supervisor = path.stem.removeprefix(prefix)
        if not supervisor.isdigit() or psutil.pid_exists(int(supervisor)):
            continue
        with suppress(OSError):
            descriptor = _open(path)
            if _try_lock(descriptor):
                path.unlink()
            os.close(descriptor)


def memory_allows_standby(limit_files: Iterable[Path] = _MEMORY_LIMITS) -> bool:
    """Whether the memory limit of this container (control groups 2 or 1), if any, allows a second process."""
    for path in limit_files:
        with suppress(OSError):
            text = path.read_text().strip()
            return not text.isdigit() or int(text) >= MIN_MEMORY_BYTES
    return True


def is_second_worker() -> bool:
    """Whether BentoML started this process as the second worker of its service."""
    return (bentoml.server_context.worker_index or 1) > 1
