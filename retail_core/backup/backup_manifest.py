"""The manifest of a backup: what it contains, with the size and the hash of each file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from retail_core import __version__
from retail_core.errors import InputError, IntegrityError
from retail_core.file_locks import write_atomically
from retail_core.times import iso

FORMAT = 1
MANIFEST_FILE = "manifest.json"
PART_SUFFIX = ".part"
"""Of the hidden folder in which a backup is written until it is complete."""
COLLECTIONS_FOLDER = "mongodb"
REGISTRY_FOLDER = "mlflow"
SETTINGS_FILE = "retail.toml"

_CHUNK_BYTES = 1 << 20

Advance = Callable[[str, int, int], None]
"""Receives a stage, and how much of it is done of what total."""


@dataclass(frozen=True)
class FileDigest:
    """Size in bytes and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Content of a backup.

    Attributes:
        id: of this backup.
        release: of the project that wrote it.
        at: instant before its snapshot, by MongoDB's clock, aware UTC.
        database: name of the database.
        documents: number of documents by collection.
        versions: number of registered model versions; None if the registry is not in it.
        files: digest by path below the folder.
    """

    id: str
    release: str
    at: datetime
    database: str
    documents: Mapping[str, int]
    versions: int | None
    files: Mapping[str, FileDigest]

    def write(self, folder: Path) -> None:
        """Write the manifest, which makes the folder a backup."""
        content = asdict(self) | {"format": FORMAT, "at": iso(self.at)}
        text = json.dumps(content | {"checksum": _checksum(content)}, indent=1)
        write_atomically(folder / MANIFEST_FILE, text)


class DigestWriter:
    """A binary stream that computes the digest of what is written to it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash, self._bytes = stream, hashlib.sha256(), 0

    def write(self, content: bytes) -> None:
        """Append `content`."""
        self._stream.write(content)
        self._hash.update(content)
        self._bytes += len(content)

    @property
    def digest(self) -> FileDigest:
        """Digest of everything written so far."""
        return FileDigest(self._bytes, self._hash.hexdigest())


def copy_file(source: Path, target: Path) -> FileDigest:
    """Copy the content of a file; returns the digest of what was copied.

    Raises:
        FileNotFoundError: `source` does not exist.
    """
    with source.open("rb") as stream:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            writer = DigestWriter(copy)
            while chunk := stream.read(_CHUNK_BYTES):
                writer.write(chunk)
    return writer.digest


def file_digest(path: Path) -> FileDigest:
    """Digest of an existing file."""
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileDigest(path.stat().st_size, sha256)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the backup in `folder`.

    Raises:
        InputError: the folder is not a backup, or a newer release wrote it.
        IntegrityError: the manifest is damaged.
    """
    path = folder / MANIFEST_FILE
    if folder.resolve().name.endswith(PART_SUFFIX):
        raise InputError(
            f"{folder} is not a backup: the command that was writing it was killed.",
            remedy="run `retail backup` again, which replaces it.",
        )
    if not path.is_file():
        raise InputError(
            f"{folder} is not a backup: it has no {MANIFEST_FILE}.",
            remedy="name the folder that `retail backup` has written.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        checksum, written_format = content.pop("checksum"), content.pop("format")
        _refuse_newer(folder, content["release"], written_format)
        if checksum != _checksum(content | {"format": written_format}):
            raise _damaged(path)
        return _parsed(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path) from error


def verify_files(folder: Path, manifest: Manifest, advance: Advance) -> None:
    """Compare every file of a backup with its digest.

    Raises:
        IntegrityError: a file is missing or differs; names it.
    """
    total, done = sum(digest.bytes for digest in manifest.files.values()), 0
    for name, expected in manifest.files.items():
        advance("verifying", done, total)
        verify_file(folder, name, expected)
        done += expected.bytes


def verify_file(folder: Path, name: str, expected: FileDigest) -> None:
    """Compare one file of a backup with its digest.

    Raises:
        IntegrityError: the file is missing or differs.
    """
    path = folder / name
    if not path.is_file():
        raise _changed(path, "is missing")
    if file_digest(path) != expected:
        raise _changed(path, "does not match its checksum")


def _parsed(content: dict[str, Any]) -> Manifest:
    files = {name: FileDigest(**digest) for name, digest in content.pop("files").items()}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in files):
        raise ValueError("a path leaves the folder")
    return Manifest(**content | {"at": datetime.fromisoformat(content["at"])}, files=files)


def _refuse_newer(folder: Path, written_by: str, written_format: int) -> None:
    if written_format > FORMAT or _release_numbers(written_by) > _release_numbers(__version__):
        raise InputError(
            f"{folder} was written by release {written_by}, and this is {__version__}.",
            remedy=f"install release {written_by} or newer, then run the command again.",
        )


def _release_numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} is damaged.", remedy="use another backup, or another copy of this one.")


def _changed(path: Path, problem: str) -> IntegrityError:
    return IntegrityError(
        f"{path} {problem}; nothing was restored.",
        remedy="use another backup, or another copy of this one.",
    )
