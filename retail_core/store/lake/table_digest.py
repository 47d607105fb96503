"""One number for what a version of a table says: its files and transactions. Every commit stores it.

Delta logs have no checksums of their own: delta-rs reads a log with another digit in a file's time range, or
without one of its commits, as if it were intact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from retail_core.store.lake.lake_file import LakeFile

DIGEST = "digest"
"""Application transaction with the digest of the version."""


def table_digest(files: Iterable[LakeFile], transactions: Mapping[str, int]) -> int:
    """Digest of files in any order, and of the application transactions but the digest's own."""
    lines = sorted(
        f"{file.path} {file.rows} {file.size} {file.partition} {_milliseconds(file.first)} "
        f"{_milliseconds(file.last, 999)}"
        for file in files
    )
    lines += sorted(f"{name} {version}" for name, version in transactions.items() if name != DIGEST)
    return int.from_bytes(hashlib.blake2b("\n".join(lines).encode(), digest_size=7).digest())


def _milliseconds(micros: int | None, rounding: int = 0) -> int | None:
    """An instant as the log stores it."""
    return None if micros is None else (micros + rounding) // 1000
