"""Promote and roll back in a process that is killed at a stated step.

A module of its own, so that the server process of `forked_processes` imports it once.
"""

from __future__ import annotations

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
from tests.forked_processes import REGISTRY_MODULES, ForkedProcess, Ready, preload

preload([*REGISTRY_MODULES, "tests.kill_points"])

KILL_POINTS: dict[str, tuple[ModuleType, str, bool]] = {
    "before the entry": (record, "insert_entry", False),
    "after the entry": (record, "insert_entry", True),
    "before the alias": (registry, "set_production", False),
    "after the alias": (registry, "set_production", True),
    "after the mark": (record, "_advance", True),
    "before the confirmation": (record, "confirm", False),
}
"""Module, function, and whether the process is killed after it instead of before it."""


def change_production(
    ready: Ready, settings: Settings, version: str | None, kill_point: str | None = None
) -> None:
    """Promote `version`, or roll back without one, up to the kill point; without one, unconfirmed."""
    ready()
    if kill_point:
        kill_at(*KILL_POINTS[kill_point])
    with open_store(settings) as store:
        author = Author("killed", confirms_later=True)
        change = promote(store, version, author) if version else rollback(store, author)
        if kill_point:
            record.confirm(store, change.entry)


def run_until_killed(settings: Settings, version: str | None, kill_point: str) -> None:
    """Run `change_production` in a process and check that it was killed."""
    process = ForkedProcess.start(change_production, settings, version, kill_point)
    assert process.wait() == -signal.SIGKILL


def kill_at(module: ModuleType | type, name: str, after: bool) -> None:
    """Let this process be killed before, or after, it calls a function of a module or class."""
    original: Callable[..., Any] = getattr(module, name)

    def killing(*args: Any, **kwargs: Any) -> None:
        if after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, killing)
