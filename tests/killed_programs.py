"""What tests run in a process that is killed; each program calls `ready` when its work begins.

A module of its own, so that the server process of `forked_processes` imports it once.
"""

from __future__ import annotations

import os
import resource
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from retail_core.backup.create import create_backup
from retail_core.backup.restore import restore_backup
from retail_core.errors import RetailError
from retail_core.ingest import undo
from retail_core.privacy.erasure import erase
from retail_core.settings import Settings
from retail_core.store.lake import table
from retail_core.store.lake.delta_table import LakeTable
from retail_core.store.lake.erase import erase_from_lake
from retail_core.store.mongo.connection import open_store
from tests.forked_processes import Ready, preload

KILLED = 9
"""Exit code of a program that ends itself at a stated step."""

preload(["tests.killed_programs", "pymongoarrow.api"])


def synchronize(ready: Ready, settings: Settings) -> int:
    """Synchronize the lake; returns its number of rows."""
    with open_store(settings) as store:
        ready()
        return table.sync(store).rows


def end_at_commit(ready: Ready, settings: Settings, operation: str, moment: str, number: int) -> None:
    """Erase user u1 from the lake, synchronize or rebuild it; end before or after a commit of a table."""
    commit, numbers = LakeTable.commit, count()

    def ending(*arguments: Any, **named: Any) -> Any:
        is_due = next(numbers) == number
        if is_due and moment == "before":
            os._exit(KILLED)
        after = commit(*arguments, **named)
        if is_due:
            os._exit(KILLED)
        return after

    LakeTable.commit = ending  # type: ignore[method-assign]
    ready()
    if operation == "erase":
        erase_from_lake(settings, "u1")
        return
    with open_store(settings) as store:
        {"sync": table.sync, "rebuild": table.rebuild}[operation](store)


def erase_user(ready: Ready, settings: Settings, user_id: str) -> None:
    """Erase a user everywhere."""
    with open_store(settings) as store:
        ready()
        erase(store, user_id)


def undo_file(ready: Ready, settings: Settings, file_id: str) -> None:
    """Undo the ingestion of a file."""
    with open_store(settings) as store:
        ready()
        undo(store, file_id, at=datetime(2025, 3, 2, tzinfo=UTC))


def back_up(ready: Ready, settings: Settings, folder: Path) -> None:
    """Create a backup."""
    with open_store(settings) as store:
        ready()
        create_backup(store, folder, lambda *_: None)


def restore_home(ready: Ready, settings: Settings, folder: Path) -> None:
    """Restore a backup."""
    ready()
    restore_backup(settings, folder, erasures=None, advance=lambda *_: None)


def back_up_to_full_disk(ready: Ready, settings: Settings, folder: Path) -> str:
    """Create a backup with a limit on the size of files, as of a full disk; returns the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
    try:
        back_up(ready, settings, folder)
    except RetailError as error:
        return error.message
    return ""
