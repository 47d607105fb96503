"""Damage of the bytes of a file: flips, cuts, copies, and text that parsers are known to stumble over."""

from __future__ import annotations

import gzip
import random

TOKENS = (
    *(b'"', b"'", b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3"),
    *(b"[" * 3_000, b"{" * 3_000, b'{"a":' * 2_000, b"]", b"}", b"null", b"true", b"{}", b"[]", b'""', b"\\"),
    *(b"9" * 400, b"1e999", b"-1e999999999", b"NaN", b"Infinity", b"-0", b"0x10", b"1,5", b"1.012,50", b"$1"),
    *(b"9999999-01-01", b"0000-00-00", b"24:00", b"2025-02-30T10:00:00Z", b"-292275055", b"253402300800000"),
    *(b"\\u", b"\\ud800", b"\xed\xa0\x80", "\u200b\u202e".encode(), b"A" * 100_000, b"=1+1", b"%s%n", b"now"),
    *(b"\x1f\x8b\x08", b"PAR1", b"PK\x03\x04", b"(\xb5/\xfd", b"#", b"//", b"/*", b"user_id", b"event_time"),
    *(b"../../x", b"NA", b"\x1a"),
)
"""Separators, encodings, depth, numbers, times, text and signatures of formats."""


def damage(content: bytes, generator: random.Random) -> bytes:
    """The content with one to six changes; a compressed one is sometimes changed inside."""
    if content[:2] == b"\x1f\x8b" and generator.random() < 0.7:
        return gzip.compress(damage(gzip.decompress(content), generator))
    for _ in range(generator.randint(1, 6)):
        content = generator.choice((_flip, _cut, _remove, _repeat, _insert, _insert, _replace_value))(
            content, generator
        )
    return content


def _position(content: bytes, generator: random.Random) -> int:
    return generator.randrange(len(content) + 1)


def _flip(content: bytes, generator: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(generator.randint(1, 8) if changed else 0):
        changed[generator.randrange(len(changed))] = generator.randrange(256)
    return bytes(changed)


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: _position(content, generator)] if generator.random() < 0.4 else content


def _remove(content: bytes, generator: random.Random) -> bytes:
    start = _position(content, generator)
    return content[:start] + content[start + generator.randint(1, 60) :]


def _repeat(content: bytes, generator: random.Random) -> bytes:
    start = _position(content, generator)
    part = content[start : start + generator.randint(1, 300)]
    at = _position(content, generator)
    return content[:at] + part * generator.choice((1, 1, 2, 50)) + content[at:]


def _insert(content: bytes, generator: random.Random) -> bytes:
    at = _position(content, generator)
    return content[:at] + generator.choice(TOKENS) + content[at:]


def _replace_value(content: bytes, generator: random.Random) -> bytes:
    """Replace what stands between two separators."""
    separator = generator.choice((b",", b":", b"\n"))
    parts = content.split(separator)
    parts[generator.randrange(len(parts))] = generator.choice(TOKENS)
    return separator.join(parts)
