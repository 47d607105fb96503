"""A file system without space."""

from __future__ import annotations

import os
from pathlib import Path


def fill(disk: Path) -> None:
    """Write a file until there is no space left."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(os.urandom(4096))
        except OSError:
            return
