"""Promote and roll back in a process that is killed at a stated step.

A module of its own, so that the fork server of `context` imports it once instead of each process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from types import ModuleType
from typing import Any

from retail_core.registry import promotion_record as record
from retail_core.registry import versions as registry
from retail_core.registry.promotion import Author, promote, rollback
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["mlflow", "mlflow.artifacts", "sklearn", "tests.kill_points", "tests.attempt_kills"]
)

KILL_POINTS: dict[str, tuple[ModuleType, str, bool]] = {
    "before the entry": (record, "insert_entry", False),
    "after the entry": (record, "insert_entry", True),
    "before the alias": (registry, "set_production", False),
    "after the alias": (registry, "set_production", True),
    "after the mark": (record, "_advance", True),
    "before the confirmation": (record, "confirm", False),
}
"""Module, function, and whether the process is killed after it instead of before it."""


def change_production(settings: Settings, version: str | None, kill_point: str | None = None) -> None:
    """Promote `version`, or roll back without one, up to the kill point; without one, unconfirmed."""
    if kill_point:
        _kill_at(*KILL_POINTS[kill_point])
    with open_store(settings) as store:
        author = Author("killed", confirms_later=True)
        change = promote(store, version, author) if version else rollback(store, author)
        if kill_point:
            record.confirm(store, change.entry)


def run_until_killed(settings: Settings, version: str | None, kill_point: str) -> None:
    """Run `change_production` in a process and check that it was killed."""
    process = context.Process(target=change_production, args=(settings, version, kill_point))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def _kill_at(module: ModuleType, name: str, after: bool) -> None:
    original: Callable[..., Any] = getattr(module, name)

    def killing(*args: Any, **kwargs: Any) -> None:
        if after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, killing)
