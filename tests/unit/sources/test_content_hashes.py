"""A copy of a file has the hash of its text, whatever its compression, encoding mark and line breaks."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retail_core.sources.content_hashes import content_hashes

TEXT = b"user,time\n" + b"".join(b"K\xc3\xb6ln %d,2025-01-01\n" % row for row in range(20_000))
COPIES: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gz": gzip.compress,
    "two gz members": lambda text: gzip.compress(text[:7]) + gzip.compress(text[7:]) + b"\x00\x00",
    "zst": lambda text: pa.Codec("zstd").compress(text, asbytes=True),
    "byte-order mark": lambda text: b"\xef\xbb\xbf" + text,
    "utf-16": lambda text: text.decode().encode("utf-16"),
    "utf-16-be": lambda text: b"\xfe\xff" + text.decode().encode("utf-16-be"),
    "crlf": lambda text: text.replace(b"\n", b"\r\n"),
    "cr": lambda text: text.replace(b"\n", b"\r"),
    "no last line break": lambda text: text.rstrip(b"\n"),
    "blank lines at the end": lambda text: text + b"\r\n\n" * 300_000,
    "gz of utf-16 with crlf": lambda text: gzip.compress(
        text.replace(b"\n", b"\r\n").decode().encode("utf-16")
    ),
}
OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "another value": lambda text: text.replace(b"ln 7,", b"ln 8,"),
    "a further row": lambda text: text + b"x,2025-01-01\n",
    "a blank line inside": lambda text: text.replace(b"ln 7,", b"ln 7\n,"),
    "cut off gz": lambda text: gzip.compress(text)[:-20],
}


def _hashes(tmp_path: Path, content: bytes) -> tuple[str, str]:
    path = tmp_path / "log"
    path.write_bytes(content)
    hashes = content_hashes(path)
    assert hashes.sha256 == hashlib.sha256(content).hexdigest()
    return hashes.sha256, hashes.text_sha256


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_has_the_same_text(tmp_path: Path, kind: str) -> None:
    assert _hashes(tmp_path, COPIES[kind](TEXT))[1] == hashlib.sha256(TEXT).hexdigest()


@pytest.mark.parametrize("kind", OTHERS)
def test_other_content_has_another_text(tmp_path: Path, kind: str) -> None:
    assert _hashes(tmp_path, OTHERS[kind](TEXT))[1] != hashlib.sha256(TEXT).hexdigest()


@pytest.mark.parametrize("content", [b"\r", b"a", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n" * 5, b"\xff\xfea"])
def test_tiny_files_have_a_hash(tmp_path: Path, content: bytes) -> None:
    assert len(_hashes(tmp_path, content)[1]) == 64


def test_line_breaks_at_the_ends_of_blocks_are_those_of_the_whole(tmp_path: Path) -> None:
    rng = random.Random(7)
    text = bytes(rng.choice(b"ab\n\n") for _ in range(600_000)) + b"a\n"
    crlf = text.replace(b"\n", b"\r\n")
    members = b"".join(gzip.compress(crlf[start : start + 999]) for start in range(0, len(crlf), 999))
    assert _hashes(tmp_path, members)[1] == hashlib.sha256(text).hexdigest()


def test_parquet_and_damaged_files_are_identified_by_their_bytes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    for content in ((tmp_path / "a.parquet").read_bytes(), gzip.compress(TEXT)[:-20]):
        sha256, text_sha256 = _hashes(tmp_path, content)
        assert sha256 == text_sha256
