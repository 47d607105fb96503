"""Ownership of the stack of a home: one `up` at a time, and leftovers of a killed one are ended."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil

from retail_core.errors import DependencyError
from retail_core.stack import processes
from retail_core.stack.processes import Identity
from retail_core.stack.state import StackFiles, StackState
from retail_core.times import iso

END_SECONDS = 60.0
LEFTOVER_GRACE_SECONDS = 10.0

Echo = Callable[[str], None]


@contextmanager
def owned(files: StackFiles, echo: Echo) -> Iterator[StackState]:
    """Own the stack of this home while inside; processes left by a killed owner are ended first.

    Raises:
        DependencyError: another `up` runs.
        InputError: the home cannot be written.
    """
    with files.exclusive() as acquired:
        if not acquired:
            raise already_running(files)
        clean_up(files, echo)
        identity = Identity.of(os.getpid())
        created = identity.created if identity else 0.0
        state = StackState(uuid.uuid4().hex, os.getpid(), created, iso(datetime.now(UTC)))
        files.write(state)
        try:
            yield state
        finally:
            files.remove_state()


def already_running(files: StackFiles) -> DependencyError:
    """The error of a second `up`."""
    state = files.read()
    owner = f" (process {state.pid}, since {state.since})" if state else ""
    return DependencyError(
        f"The stack of {files.home} is already running{owner}.",
        remedy="see `retail status`, or end it with `retail down`.",
    )


def end_owner(files: StackFiles, echo: Echo) -> None:
    """End the running `up`: SIGTERM, then SIGKILL after a minute.

    Raises:
        DependencyError: the process belongs to another user.
    """
    state = files.read()
    deadline = time.monotonic() + END_SECONDS
    while state is None and files.running() and time.monotonic() < deadline:
        time.sleep(0.1)
        state = files.read()
    process = state.supervisor.process() if state else None
    if process is None:
        return
    try:
        process.send_signal(signal.SIGTERM)
        while files.running() and time.monotonic() < deadline:
            time.sleep(0.1)
        if files.running():
            echo("the stack does not end by itself; ending it by force")
            process.kill()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise DependencyError(
            f"The stack (process {process.pid}) belongs to another user.", remedy="stop it as that user."
        ) from error


def clean_up(files: StackFiles, echo: Echo) -> int:
    """End the processes that a killed `up` left behind; returns their number. The caller holds the lock."""
    state = files.read()
    if state is None:
        return 0
    count = processes.end(state.id, state.leaders, grace=LEFTOVER_GRACE_SECONDS)
    if count:
        echo(f"ended {count} processes that a killed stack had left behind")
    files.remove_state()
    return count
