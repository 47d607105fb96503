"""Exclusive locks between processes of one machine, replacing a file in one step, private folders.

The locks are `filelock`'s: `flock` on a file that stays in place. The kernel releases a lock when its process
ends, also by SIGKILL, and child processes do not inherit it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from retail_core.temporary_files import noted_partial

_POLL_SECONDS = 0.02


def create_private_folder(folder: Path) -> None:
    """Create `folder` and its missing parents, which only their owner may enter (mode 0700).

    Existing folders keep their mode.

    Raises:
        OSError: a folder cannot be created.
    """
    if not folder.parent.is_dir():
        create_private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block, waiting as long as another process or thread holds it.

    Raises:
        OSError: the lock file cannot be created.
    """
    create_private_folder(path.parent)
    with FileLock(path, poll_interval=_POLL_SECONDS):
        yield


def try_lock(path: Path, *, wait_seconds: float = 0.0) -> FileLock | None:
    """The acquired lock, to be released by the caller or by the end of the process; None if it stays held.

    Args:
        path: the lock file; its folder exists.
        wait_seconds: how long to wait for the present holder.

    Raises:
        OSError: the lock file cannot be created.
    """
    lock = FileLock(path, poll_interval=_POLL_SECONDS, thread_local=False)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        return None
    return lock


@contextmanager
def replace_file(path: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes `path` at the end of the block; readers never see a part of it.

    The stream is a hidden file of the same folder. It is synced to disk and then renamed to `path`; if the
    block raises, it is removed and `path` stays as it was. If the process is killed, the next command of its
    home removes it.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with noted_partial(temporary):
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Replace `path` by UTF-8 `text` in one step; `mode` are the new file's permissions.

    Raises:
        OSError: the file cannot be written.
    """
    with replace_file(path) as stream:
        if mode is not None:
            os.fchmod(stream.fileno(), mode)
        stream.write(text.encode())
