"""Starting and ending operating-system processes, including all their descendants and no other process.

Every process of the stack has `STACK_ID_VARIABLE=<stack id>/<service>` in its environment, which its children
inherit. So all descendants are found even where a parent was killed and its children moved to init. A pid
read from a file is used only if the creation time recorded with it matches, since pids are reused.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

STACK_ID_VARIABLE = "RETAIL_STACK_MARK"
CREATED_TOLERANCE_SECONDS = 1.0
LINGER_SECONDS = 2.0
KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Identity:
    """Unique identity of a process: pid and creation time (seconds since the epoch)."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of the process that has this pid now; None when there is none."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def process(self) -> psutil.Process | None:
        """The process, if it still runs; None when it has ended or the pid belongs to another one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < CREATED_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def start(
    command: Sequence[str], *, environment: Mapping[str, str], cwd: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start a program in its own session; its output is appended to `log`.

    Raises:
        OSError: the program does not exist.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def family(mark: str, roots: Iterable[Identity] = ()) -> list[psutil.Process]:
    """Live processes whose stack id is `mark` or below it, or that descend from one of `roots`."""
    marked_processes: dict[int, psutil.Process] = {}
    for root in roots:
        process = root.process()
        if process is not None:
            marked_processes.update({member.pid: member for member in [process, *_children(process)]})
    for process in psutil.process_iter():
        if process.pid not in marked_processes and _has_mark(process, mark):
            marked_processes[process.pid] = process
    marked_processes.pop(os.getpid(), None)
    return [process for process in marked_processes.values() if _alive(process)]


def end(mark: str, leaders: Sequence[Identity] = (), *, grace: float) -> int:
    """End a process family: SIGTERM to the leaders, then to all others, then SIGKILL.

    Args:
        mark: stack id of the family.
        leaders: main processes, which get SIGTERM first, since they end their own children.
        grace: seconds the leaders get.

    Returns:
        Number of processes alive at the start.
    """
    marked_processes = family(mark, leaders)
    for leader in leaders:
        process = leader.process()
        if process is not None:
            _signal(process, signal.SIGTERM)
    _wait(lambda: not any(leader.process() for leader in leaders), grace)
    end_remaining(mark, leaders, linger=min(LINGER_SECONDS, grace))
    return len(marked_processes)


def end_remaining(mark: str, leaders: Sequence[Identity], *, linger: float) -> None:
    """End the remaining processes of a family: SIGTERM, `linger` seconds, then SIGKILL until none is left."""
    remaining = family(mark, leaders)
    for process in remaining:
        _signal(process, signal.SIGTERM)
    if remaining:
        _wait(lambda: not family(mark, leaders), linger)
    deadline = time.monotonic() + KILL_SECONDS
    while (remaining := family(mark, leaders)) and time.monotonic() < deadline:
        for process in remaining:
            _signal(process, signal.SIGKILL)
        time.sleep(0.05)


def port_holder(port: int) -> str:
    """The process that listens on a port, as text: `process 12 (python3 -m http.server)`."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return "another process"
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        if connection.laddr.port == port and connection.pid:
            return f"process {connection.pid} ({_command_line(connection.pid)})"
    return "another process"


def _command_line(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        text = " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "unknown"
    return text if len(text) <= 80 else text[:77] + "..."


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _has_mark(process: psutil.Process, mark: str) -> bool:
    try:
        value = process.environ().get(STACK_ID_VARIABLE, "")
    except (psutil.Error, OSError):
        return False
    return value == mark or value.startswith(f"{mark}/")


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)
    except psutil.Error:
        return


def _wait(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.05)
