"""The worker processes end with BentoML's main process, also where that is killed.

A killed main process cannot tell its workers, which would keep the port. So each watches its parent, which
works on every platform, and ends itself also where it does not react to SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

SUPERVISOR_VARIABLE = "RETAIL_SERVICE_PID"
"""Has the process id of the main process, set by `bentos.serve`."""

SHUTDOWN_SECONDS = 5.5
"""From SIGTERM until a worker that still runs is killed."""

ANSWER_SECONDS = 4.0
"""Of them, for answers in progress."""

POLL_SECONDS = 0.25

log = logging.getLogger("bentoml.serve")


def supervisor() -> int:
    """Process id of the main process; without `SUPERVISOR_VARIABLE` the present parent's."""
    return int(os.environ.get(SUPERVISOR_VARIABLE, os.getppid()))


def end_with_supervisor(pid: int) -> None:
    """Begin to watch the main process; to be called once in each worker.

    Args:
        pid: of the main process, the parent of this one.
    """
    threading.Thread(target=_watch, args=(pid,), name="supervisor", daemon=True).start()


def _watch(pid: int) -> None:
    while os.getppid() == pid:
        time.sleep(POLL_SECONDS)
    log.warning("The main process %d is gone: this worker ends too.", pid)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SHUTDOWN_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
