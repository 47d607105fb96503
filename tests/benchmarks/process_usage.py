"""Wall time, CPU time and peak memory of a command with all of its child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil

INTERVAL = 0.1


class UsageSampler(threading.Thread):
    """The largest sum of resident memory of a process, its descendants, and further processes.

    Also the CPU time of the process and its descendants, as last seen of each: that of daemons which are
    killed is in no parent's account.
    """

    def __init__(self, pid: int, others: Sequence[int] = ()) -> None:
        super().__init__(daemon=True)
        self._root, self._others = psutil.Process(pid), others
        self._ended = threading.Event()
        self.peak, self.peak_others = 0, 0
        self._cpu_of: dict[int, float] = {}

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all processes that were seen."""
        return sum(self._cpu_of.values())

    def run(self) -> None:
        while not self._ended.wait(INTERVAL):
            with suppress(psutil.NoSuchProcess):
                tree = [self._root, *self._root.children(recursive=True)]
                self._cpu_of |= {process.pid: _cpu_seconds(process.pid) for process in tree}
                self.peak = max(self.peak, sum(map(_resident, tree)))
                self.peak_others = max(self.peak_others, sum(_resident_of(pid) for pid in self._others))

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()


def _resident(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _resident_of(pid: int) -> int:
    with suppress(psutil.NoSuchProcess):
        return _resident(psutil.Process(pid))
    return 0


def _cpu_seconds(pid: int) -> float:
    with suppress(psutil.NoSuchProcess):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def measure_command(
    module: str, arguments: Sequence[str], others: Sequence[int] = ()
) -> tuple[dict[str, float], dict[str, Any]]:
    """Run `python -m module`; its usage, and the JSON object that is the last line of its output.

    The usage: `seconds`, `cpu_seconds` and `peak_mb` of the command and its children; `others_cpu_seconds`
    and `others_mb` of the processes `others` (such as `mongod`); `load_before` and `load_after`, the mean
    number of runnable processes of the machine in the minute before and in the last minute.

    Raises:
        RuntimeError: the command failed.
    """
    load_before, others_before = os.getloadavg()[0], sum(map(_cpu_seconds, others))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    sampler = UsageSampler(process.pid, others)
    sampler.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    sampler.stop()
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {process.returncode}")
    figures = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": max(usage.ru_utime + usage.ru_stime, sampler.cpu_seconds),
        "peak_mb": max(sampler.peak / 2**20, usage.ru_maxrss / 1024),
        "others_cpu_seconds": sum(map(_cpu_seconds, others)) - others_before,
        "others_mb": sampler.peak_others / 2**20,
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
    }
    return {name: round(value, 2) for name, value in figures.items()}, json.loads(output.splitlines()[-1])
