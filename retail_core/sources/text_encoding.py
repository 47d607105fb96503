"""The probable encoding of text that is not UTF-8: a guess for messages and proposals, not for ingest."""

from __future__ import annotations

import re
from pathlib import Path

from retail_core.errors import InputError
from retail_core.sources.compressed_files import DecompressedFile, file_kind

SAMPLE_BYTES = 1 << 18
"""Bytes from the beginning of a file from which its encoding is guessed."""

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CANDIDATES = [
    "cp1252", "iso8859_15", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp932",
    "euc_jp", "gb18030", "big5", "cp949", "mac_roman", "cp850",
]  # fmt: skip
_WESTERN = ("cp1252", "iso8859_15", "cp850", "mac_roman", "cp1254", "cp1250")
"""Encodings of Western text, the most frequent first: spreadsheets write cp1252."""

_MIN_NULS = 0.3
"""Share of NUL bytes at odd or even positions from which text is UTF-16 without a byte-order mark."""


def first_bytes(path: Path, size: int = SAMPLE_BYTES) -> bytes:
    """The first `size` bytes of a file's decompressed content, fewer if it ends or is damaged before.

    Raises:
        InputError: as `file_kind`.
    """
    content = DecompressedFile(path, file_kind(path))
    blocks: list[bytes] = []
    try:
        while sum(map(len, blocks)) < size and (block := content.read(size)):
            blocks.append(block)
    finally:
        content.close()
    return b"".join(blocks)[:size]


def probable_encoding(data: bytes) -> str | None:
    """Name of the encoding that `data` is probably text of; None if it looks like no text.

    >>> probable_encoding("Zoë kauft".encode()), probable_encoding("a".encode("utf-16"))
    ('utf-8', 'utf-16')
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    if b"\x00" not in data and is_utf8(data):
        return "utf-8"
    for name, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        half = data[start::2]
        if half and half.count(0) >= _MIN_NULS * len(half) and not data[1 - start :: 2].count(0):
            return name
    return None if b"\x00" in data else _statistical_guess(data)


def is_utf8(data: bytes) -> bool:
    """Whether `data` is UTF-8, possibly cut off within its last character."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def _statistical_guess(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(data, cp_isolation=_CANDIDATES, enable_fallback=False).best()
    if best is None:
        return None
    return _western_guess(data) if best.encoding in _WESTERN else best.encoding


def _western_guess(data: bytes) -> str:
    """The Western encoding by which most bytes beyond ASCII are letters in words or signs beside digits."""
    scores = {name: _plausible_characters(data.decode(name, "replace")) for name in _WESTERN}
    return max(_WESTERN, key=lambda name: scores[name])


def _plausible_characters(text: str) -> int:
    letters = len(re.findall(r"(?<=[A-Za-z])[\u00c0-\u00ff\u0152-\u017e]|[\u00c0-\u00ff](?=[a-z])", text))
    return letters + len(re.findall(r"(?<=\d)\s?[€£¥]|[€£¥](?=\d)", text))


def encoding_error(path: Path, encoding: str) -> InputError:
    """The error that a file is not text in `encoding`, with the probable encoding, if there is one."""
    try:
        guess = probable_encoding(first_bytes(path))
    except InputError:
        guess = None
    if guess is None or guess == encoding:
        return InputError(
            f"{path} is not {encoding} text.",
            remedy="name its encoding in a mapping (utf-16, latin-1, ...), or unpack it where it is packed.",
        )
    return InputError(
        f"{path} is not {encoding} text: it looks like {guess}.",
        remedy=f"set encoding: {guess} in a mapping, and check names with accents after it.",
    )
