"""Bodies that would take seconds to decode are refused before, and a huge item leaves the others alone."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.json_shape import (
    MAX_DEPTH,
    MAX_NAMES,
    MAX_NESTED_ITEMS,
    MAX_VALUES,
    oversized_items,
    without_items,
)
from bentos.problems import Problem

MIB = 1024 * 1024
ITEMS = 1_000
SECONDS = 0.5
"""Far more than a check takes, far less than decoding."""


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"[" + b"1," * (8 * MIB - 1) + b"1]", "1000 items"),
        (b"[" + b"1," * ITEMS + b"1]", "1000 items"),
        (b"[[" + b"1," * (8 * MIB - 2) + b"1]]", f"{MAX_VALUES} values"),
        (b"{" + b'"a":1,' * (2 * MIB) + b'"a":1}', f"{MAX_NAMES} names"),
        (b"{" + b'"a":1,' * MAX_NAMES + b'"a":1}', f"{MAX_NAMES} names"),
        (b"[" * (16 * MIB), f"{MAX_VALUES} values"),
        (b'{"a":' + deep(MAX_DEPTH) + b"}", f"{MAX_DEPTH} levels"),
        (b'{"a":[' + b"1," * MAX_NESTED_ITEMS + b"1]}", f"{MAX_NESTED_ITEMS} items"),
        (b'{"a":{' + b'"a":1,' * MAX_NAMES + b'"a":1}}', f"{MAX_NAMES} names"),
    ],
)
def test_a_body_beyond_a_limit_is_refused_soon(body: bytes, rule: str) -> None:
    started = time.perf_counter()
    with pytest.raises(Problem) as caught:
        oversized_items(body, ITEMS)
    assert time.perf_counter() - started < SECONDS
    assert caught.value.status == 422
    assert rule in caught.value.detail


@pytest.mark.parametrize("content", [b'"', b"\\", b"]", b" ", b"a", b'\\"'])
def test_other_bytes_are_checked_soon(content: bytes) -> None:
    started = time.perf_counter()
    oversized_items(b'["' + content * (16 * MIB // len(content)), ITEMS)
    assert time.perf_counter() - started < SECONDS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" + b"1," * (ITEMS - 1) + b"1]",
        b"{" + b'"a":1,' * (MAX_NAMES - 1) + b'"a":1}',
        b'{"a":' + deep(MAX_DEPTH - 1) + b"}",
        b'{"a":[' + b"1," * (MAX_NESTED_ITEMS - 1) + b"1]}",
        json.dumps({"a": "[" * 100 + "," * 6_000 + '"' + "\\" * 3}).encode(),
    ],
)
def test_a_body_within_the_limits_is_admitted(body: bytes) -> None:
    assert oversized_items(body, ITEMS) == {}


@pytest.mark.parametrize(
    "item",
    [
        deep(MAX_DEPTH),
        deep(100_000),
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a":{' + b'"a":1,' * MAX_NAMES + b'"a":1}}',
        b'{"a":[' + b"1," * MAX_NESTED_ITEMS + b"1]}",
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_only_the_item_beyond_a_limit_is_left_out(item: bytes, position: int) -> None:
    good = [b'{"user_id": "a]\\\\"}', b'"\\"[[,"']
    items = [*good[:position], item, *good[position:]]
    body = b"[" + b" , ".join(items) + b"]"
    oversized = oversized_items(body, ITEMS)
    assert list(oversized) == [position]
    expected = [json.loads(text) for text in [*good[:position], b"null", *good[position:]]]
    assert json.loads(without_items(body, oversized)) == expected


STRINGS = st.text(alphabet='a"\\[]{},:', max_size=12)
VALUES = st.recursive(
    STRINGS | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
)


def depth_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(items=st.lists(VALUES, min_size=1, max_size=6), nested=st.integers(0, 80))
def test_exactly_the_items_that_are_too_deep_are_found(items: list[object], nested: int) -> None:
    value: object = items
    for _ in range(nested):
        value = [value]
    body = json.dumps([items, value, *items]).encode() + b" " * 70_000
    too_deep = {
        number for number, item in enumerate([items, value, *items]) if depth_of(item) + 1 > MAX_DEPTH
    }
    assert set(oversized_items(body, ITEMS)) == too_deep
