"""Bytes of a file, unpacked, in bounded memory; what breaks on the way is remembered, not raised."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from retail_core.errors import InputError

BLOCK = 1 << 18
GZIP_BLOCK = 1 << 16
"""Small, because a block can unpack to a thousand times its size."""
MAX_LINE = 1 << 24
"""Longest run of bytes without a line break, 16 MB; beyond it the file is not lines."""

_UNREAD = {"zip": b"PK\x03\x04", "bzip2": b"BZh", "xz": b"\xfd7zXZ\x00", "7z": b"7z\xbc\xaf\x27\x1c"}
_MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"PAR1": "parquet"} | {
    magic: kind for kind, magic in _UNREAD.items()
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def file_kind(path: Path) -> str:
    """`gz`, `zst`, `parquet` or `plain`, by content, never by name.

    Raises:
        InputError: missing, a folder, not readable, empty, or packed in a way that is not read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(6)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", remedy="check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", remedy="name a readable file, not a folder."
        ) from error
    if not head:
        raise InputError(f"{path} is empty.", remedy="fetch the file again.")
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "plain")
    if kind in _UNREAD:
        raise InputError(
            f"{path} is packed as {kind}.", remedy="unpack it; .gz and .zst are read as they are."
        )
    return kind


def content_hash(path: Path) -> str:
    """SHA-256 of the file as it lies on disk, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Unpacked(io.RawIOBase):
    """A file's unpacked bytes. `position` is how many packed ones were read for them.

    After the end, `problem` says what cut them short, if anything did.
    """

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._blocks = _BLOCKS[kind](self._file)
        self._rest = memoryview(b"")
        self._since_break = 0
        self.position = 0
        self.problem: str | None = None

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer`; 0 at the end, and at the first problem."""
        while not self._rest and self.problem is None:
            block = self._next()
            if not block:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _next(self) -> bytes:
        try:
            block = next(self._blocks, b"")
        except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
            self.problem = f"it is cut off or damaged ({error})"
            return b""
        if not self._file.closed:
            self.position = self._file.tell()
        last_break = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._since_break = self._since_break + len(block) if last_break < 0 else len(block) - last_break
        if self._since_break > MAX_LINE:
            self.problem = "a line is longer than 16 MB"
            return b""
        return block

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _plain_blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _gzip_blocks(file: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj(wbits=31)
    while packed := file.read(GZIP_BLOCK):
        while packed:
            if inflate.eof:
                inflate = zlib.decompressobj(wbits=31)
            if block := inflate.decompress(packed):
                yield block
            packed = inflate.unused_data.lstrip(b"\x00")
    if not inflate.eof:
        raise EOFError("the compressed data end early")


def _zstd_blocks(file: BinaryIO) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
        while block := stream.read(BLOCK):
            yield block


_BLOCKS = {"plain": _plain_blocks, "gz": _gzip_blocks, "zst": _zstd_blocks}


def looks_utf16(path: Path) -> bool:
    """Whether an unpacked file begins with a UTF-16 byte order mark."""
    with path.open("rb") as file:
        return file.read(2) in _UTF16
