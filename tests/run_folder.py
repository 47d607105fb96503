"""Folders that the pytest-xdist workers of a test run share, each filled once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_run_folder(factory: pytest.TempPathFactory) -> Path:
    """The run's temporary folder; under pytest-xdist the parent of every worker's own."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def fill_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Create the folder and call `fill` on it in the process that asks first; the others wait for it."""
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            try:
                fill(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder
