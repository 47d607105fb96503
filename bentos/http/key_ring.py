"""The accepted API keys of a running service: those of the settings, and those of a file that may change."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from retail_core.api_keys import ApiKey, key_digest, read_keys
from retail_core.errors import InputError

CHECK_SECONDS = 1.0
"""How often the file is looked at, at most; it is read where its status has changed."""

FileStatus = tuple[int, int, int, int, int]

log = logging.getLogger("bentoml.serve")


class KeyRing:
    """Finds the key of a request by its hash.

    The keys of a file that has become unreadable are those that were read last, and the error is logged; a
    deleted file has no keys. Once there was a key or a file, a key is needed until the service ends.

    Args:
        configured: keys of the settings.
        file: file of further keys; None for none. It may be created later.

    Attributes:
        file_refused: whether the present content of the file is unreadable.

    Raises:
        InputError: the file is unreadable.
    """

    def __init__(self, configured: Sequence[ApiKey] = (), file: Path | None = None) -> None:
        self.file_refused = False
        self._configured = tuple(configured)
        self._file = file
        self._status = _status(file)
        self._checked = float("-inf")
        self._needs_key = bool(self._configured)
        self._keys: dict[bytes, ApiKey] = {}
        self._take(read_keys(file) if file else [])

    @classmethod
    def of(cls, *keys: str) -> KeyRing:
        """A ring of plain keys with all scopes, named `settings-1`, `settings-2`, ..."""
        return cls(
            [ApiKey(f"settings-{number}", key_digest(key.encode())) for number, key in enumerate(keys, 1)]
        )

    def needs_key(self, clock_seconds: float) -> bool:
        """Whether requests need a key; reads the file again if it has changed."""
        if self._file is not None and clock_seconds - self._checked >= CHECK_SECONDS:
            self._checked = clock_seconds
            self._follow(self._file)
        return self._needs_key

    def find(self, digest: bytes) -> ApiKey | None:
        """The key with this SHA-256.

        Which bucket of the dictionary is searched depends on the hash of the digest only, and the digest is
        compared in constant time: the duration says nothing about a key.
        """
        key = self._keys.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None

    def _follow(self, file: Path) -> None:
        status = _status(file)
        if status == self._status:
            return
        self._status = status
        try:
            keys = read_keys(file)
        except InputError as error:
            self.file_refused = True
            log.error("The API keys stay as they were read last. %s", error)  # noqa: TRY400 - says it all
            return
        self.file_refused = False
        self._take(keys)
        log.info("Read %d API keys of %s", len(keys), file)

    def _take(self, keys: Iterable[ApiKey]) -> None:
        self._needs_key = self._needs_key or self._status is not None
        self._keys = {key.digest: key for key in (*keys, *self._configured)}


def _status(file: Path | None) -> FileStatus | None:
    """What changes whenever the file is written, replaced or gets another mode; None without a file."""
    if file is None:
        return None
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return (0, 0, 0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_uid)
