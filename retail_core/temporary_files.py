"""Temporary files below the home, so that those of a killed process are found and deleted.

While a process has claimed the folder of a home, its temporary folders are there. Files that are written
beside their place are noted there by a link. A lock tells whether the process still lives: the next claim,
thus the next command, deletes what others left behind. The folder of `tempfile` stays as it is, since
libraries put sockets there, whose paths must be short.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK_SUFFIX = ".lock"
_POLL_SECONDS = 0.02


@dataclass
class _Claim:
    folder: Path
    lock: FileLock
    process: int
    users: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether it is of this process, not of one that forked it, and nobody has deleted the folder."""
        return self.process == os.getpid() and self.folder.is_dir()


_claims: dict[Path, _Claim] = {}
_guard = threading.Lock()


def temporary_root(home: Path) -> Path:
    """The folder below a home that has one folder per process."""
    return home / "tmp"


def claim_temporary_folder(root: Path) -> Callable[[], None]:
    """Let this process have its temporary files below `root`, and delete those of processes that were killed.

    Returns the function that ends the claim. The folder is deleted when the last of several claims ends. If
    it cannot be created, as on a full disk, temporary folders are those of the system.

    Args:
        root: an existing folder, of one home.
    """
    with _guard:
        claim = _claims.get(root)
        if claim is None or not claim.is_usable:
            try:
                claim = _claims[root] = _open_claim(root)
            except OSError:
                return lambda: None
        claim.users += 1
    return _once(partial(_end_claim, root, claim))


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new private folder, deleted at the end of the block.

    Args:
        prefix: begins its name.
    """
    with tempfile.TemporaryDirectory(prefix=prefix, dir=_claimed_folder()) as folder:
        yield Path(folder)


@contextmanager
def noted_partial(path: Path) -> Iterator[None]:
    """Note a file or folder outside the temporary folder that is to be deleted if this process is killed."""
    folder = _claimed_folder()
    if folder is None:
        yield
        return
    note = folder / f"partial-{uuid.uuid4().hex}"
    with suppress(OSError):
        note.symlink_to(path.absolute())
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _claimed_folder() -> Path | None:
    with _guard:
        return next((claim.folder for claim in reversed(_claims.values()) if claim.is_usable), None)


def _open_claim(root: Path) -> _Claim:
    # A folder is created with its lock while no other process looks for folders without a holder.
    with FileLock(root / "lock", poll_interval=_POLL_SECONDS):
        for lock_file in root.glob(f"*{_LOCK_SUFFIX}"):
            _delete_abandoned(lock_file)
        folder = root / uuid.uuid4().hex
        lock = FileLock(folder.with_suffix(_LOCK_SUFFIX), thread_local=False)
        lock.acquire(timeout=0)
        folder.mkdir(mode=0o700)
    return _Claim(folder, lock, os.getpid())


def _delete_abandoned(lock_file: Path) -> None:
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return
    folder = lock_file.with_suffix("")
    for note in (path for path in folder.glob("partial-*") if path.is_symlink()):
        _delete(note.readlink())
    _delete(folder)
    lock_file.unlink(missing_ok=True)
    lock.release()


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _end_claim(root: Path, claim: _Claim) -> None:
    with _guard:
        claim.users -= 1
        if claim.users:
            return
        if _claims.get(root) is claim:
            del _claims[root]
        if claim.process == os.getpid():
            shutil.rmtree(claim.folder, ignore_errors=True)
            claim.folder.with_suffix(_LOCK_SUFFIX).unlink(missing_ok=True)
            claim.lock.release()


def _once(function: Callable[[], None]) -> Callable[[], None]:
    pending = [function]

    def call() -> None:
        if pending:
            pending.pop()()

    return call
