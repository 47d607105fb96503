"""Starting and ending operating-system processes so that none is forgotten and no stranger is hurt.

Every process the stack starts carries `MARK=<stack id>/<service>` in its environment and hands it on to
whatever it starts itself. So the whole family is found even where a parent was killed and its children
moved to init. A pid read from a file counts only together with the creation time recorded beside it.
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

MARK = "RETAIL_STACK_MARK"
CREATED_TOLERANCE_SECONDS = 1.0
LINGER_SECONDS = 2.0
KILL_SECONDS = 10.0


@dataclass(frozen=True)
class Identity:
    """A process beyond doubt: its pid and when it was created (seconds since the epoch)."""

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
    """Start a program in a session of its own; what it prints is appended to `log`.

    Raises:
        OSError: no such program.
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
    """Every live process that carries `mark` (or one below it) or descends from one of `roots`."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        process = root.process()
        if process is not None:
            found.update({one.pid: one for one in [process, *_children(process)]})
    for process in psutil.process_iter():
        if process.pid not in found and _carries(process, mark):
            found[process.pid] = process
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _alive(process)]


def end(mark: str, leaders: Sequence[Identity] = (), *, grace: float) -> int:
    """End a whole family: its leaders politely, then the rest politely, then all by force.

    Args:
        mark: what the family carries.
        leaders: those asked first; they end their own children best.
        grace: seconds the leaders get.

    Returns:
        How many processes were found alive at the start.
    """
    members = family(mark, leaders)
    for leader in leaders:
        process = leader.process()
        if process is not None:
            _signal(process, signal.SIGTERM)
    _wait(lambda: not any(leader.process() for leader in leaders), grace)
    end_rest(mark, leaders, linger=min(LINGER_SECONDS, grace))
    return len(members)


def end_rest(mark: str, leaders: Sequence[Identity], *, linger: float) -> None:
    """End whoever of the family is left: SIGTERM, `linger` seconds, then SIGKILL until nobody is."""
    rest = family(mark, leaders)
    for process in rest:
        _signal(process, signal.SIGTERM)
    if rest:
        _wait(lambda: not family(mark, leaders), linger)
    deadline = time.monotonic() + KILL_SECONDS
    while (rest := family(mark, leaders)) and time.monotonic() < deadline:
        for process in rest:
            _signal(process, signal.SIGKILL)
        time.sleep(0.05)


def port_holder(port: int) -> str:
    """Who listens on a port, as text for a person: `process 12 (python3 -m http.server)`."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return "another process"
    for one in connections:
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            return f"process {one.pid} ({_command_line(one.pid)})"
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


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        carried = process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return False
    return carried == mark or carried.startswith(f"{mark}/")


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
