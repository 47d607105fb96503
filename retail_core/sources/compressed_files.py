"""Decompressed bytes of gzip, Zstandard and plain files in bounded memory; kind and hash of a file.

Damage is recorded in `problem` instead of raised, so that the rows before it can be used.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from retail_core.errors import InputError
from retail_core.sources.file_formats import HEAD_BYTES, refuse_other_formats

BLOCK = 1 << 18
GZIP_BLOCK = 1 << 16
"""Small, because a block can decompress to a thousand times its size."""
MAX_LINE = 1 << 24
"""Most bytes without a line break, 16 MB; a file with a longer line is not read as lines."""

_MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"PAR1": "parquet"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF32 = b"\xff\xfe\x00\x00"


def file_kind(path: Path) -> str:
    """`gz`, `zst`, `parquet` or `plain`, recognised by content, never by name.

    Raises:
        InputError: the file is missing, a folder, unreadable, empty, or in a format that is not read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", remedy="check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}.", remedy="name a readable file, not a folder."
        ) from error
    if not head:
        raise InputError(f"{path} is empty.", remedy="fetch the file again.")
    refuse_other_formats(path, head)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "plain")


def content_hash(path: Path) -> str:
    """SHA-256 of the (compressed) file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class DecompressedFile(io.RawIOBase):
    """Stream of a file's decompressed bytes.

    Attributes:
        position: bytes of the compressed file read so far.
        problem: after the end, what ended the stream early; None if it is complete.
    """

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._blocks = BLOCKS[kind](self._file)
        self._buffered = memoryview(b"")
        self._line_bytes = 0
        self.position = 0
        self.problem: str | None = None

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` and return the number of bytes; 0 at the end and after a problem."""
        while not self._buffered and self.problem is None:
            block = self._next_block()
            if not block:
                return 0
            self._buffered = memoryview(block)
        count = min(len(buffer), len(self._buffered))
        buffer[:count] = self._buffered[:count]
        self._buffered = self._buffered[count:]
        return count

    def _next_block(self) -> bytes:
        try:
            block = next(self._blocks, b"")
        except (OSError, EOFError, zlib.error, pa.ArrowInvalid) as error:
            self.problem = f"it is cut off or damaged ({error})"
            return b""
        if not self._file.closed:
            self.position = self._file.tell()
        last_break = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._line_bytes = self._line_bytes + len(block) if last_break < 0 else len(block) - last_break
        if self._line_bytes > MAX_LINE:
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
    decompressor = zlib.decompressobj(wbits=31)
    while compressed := file.read(GZIP_BLOCK):
        while compressed:
            if decompressor.eof:
                decompressor = zlib.decompressobj(wbits=31)
            if block := decompressor.decompress(compressed):
                yield block
            compressed = decompressor.unused_data.lstrip(b"\x00")
    if not decompressor.eof:
        raise EOFError("the compressed data end early")


def _zstd_blocks(file: BinaryIO) -> Iterator[bytes]:
    with pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd") as stream:
        while block := stream.read(BLOCK):
            yield block


BLOCKS = {"plain": _plain_blocks, "gz": _gzip_blocks, "zst": _zstd_blocks}
"""Decompressed blocks of an open file, by its kind."""


def looks_utf16(path: Path) -> bool:
    """Whether an uncompressed file begins with the byte-order mark of UTF-16, not of UTF-32."""
    with path.open("rb") as file:
        head = file.read(4)
    return head[:2] in _UTF16 and head != _UTF32
