"""Hashes that identify the content of a file: of its bytes, and of its text whatever its packing.

Separate from `compressed_files.py`, which reads files. Both hashes take one pass over the file.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from retail_core.sources.compressed_files import BLOCKS, file_kind

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF32_MARK = b"\xff\xfe\x00\x00"
_LONGEST_MARK = 4
_LINE_BREAKS = b"\r\n"


@dataclass(frozen=True)
class ContentHashes:
    """What identifies the content of a file, 64 hex digits each.

    Attributes:
        sha256: hash of the bytes as they are stored, compressed or not.
        text_sha256: hash of the text: decompressed, without a byte-order mark (UTF-16 with one as UTF-8), and
            with line feeds as line breaks, one at the end. It is `sha256` of Parquet and of damaged files.
    """

    sha256: str
    text_sha256: str


def content_hashes(path: Path) -> ContentHashes:
    """Hashes of the content of a file.

    Raises:
        InputError: as `file_kind`.
    """
    kind = file_kind(path)
    with path.open("rb") as file:
        stored = _HashedFile(file)
        text = None if kind == "parquet" else _text_hash(stored, kind)
        stored.read_rest()
    sha256 = stored.digest.hexdigest()
    return ContentHashes(sha256, text or sha256)


class _HashedFile(io.RawIOBase):
    """A file that hashes the bytes that are read from it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self._file.read(len(buffer))
        self.digest.update(block)
        buffer[: len(block)] = block
        return len(block)

    def read_rest(self) -> None:
        while block := self._file.read(1 << 20):
            self.digest.update(block)


def _text_hash(file: _HashedFile, kind: str) -> str | None:
    """Hash of the normalized text; None if the compressed data are damaged or cut off."""
    text = _NormalizedText()
    try:
        for block in BLOCKS[kind](file):  # type: ignore[arg-type]
            text.update(block)
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid, UnicodeError):
        return None
    return text.hexdigest()


class _NormalizedText:
    """Hash of text in which byte-order mark, UTF-16 and kind of line break make no difference."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._decoder: codecs.IncrementalDecoder | None = None
        self._beginning: bytes | None = b""
        self._line_breaks: list[bytes] = []

    def update(self, block: bytes) -> None:
        """Hash the next bytes."""
        if self._beginning is not None:
            self._beginning += block
            if len(self._beginning) < _LONGEST_MARK:
                return
            block = self._without_mark()
        self._add(block)

    def hexdigest(self) -> str:
        """The hash of all bytes, 64 hex digits."""
        if self._beginning is not None:
            self._add(self._without_mark())
        self._digest.update(b"\n")
        return self._digest.hexdigest()

    def _without_mark(self) -> bytes:
        beginning, self._beginning = self._beginning or b"", None
        if beginning.startswith(_UTF16_MARKS) and not beginning.startswith(_UTF32_MARK):
            self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
        return beginning.removeprefix(_UTF8_MARK)

    def _add(self, block: bytes) -> None:
        """Hash `block` without the line breaks at its end, which do not count at the end of the file."""
        if self._decoder is not None:
            block = self._decoder.decode(block).encode("utf-8", "surrogatepass")
        length = len(block.rstrip(_LINE_BREAKS))
        if length:
            text = b"".join((*self._line_breaks, block[:length])) if self._line_breaks else block[:length]
            if b"\r" in text:
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            self._digest.update(text)
            self._line_breaks = []
        if length < len(block):
            self._line_breaks.append(block[length:])
