"""Limits on the shape of a JSON body, checked before it is decoded.

A body of 16 MiB can hold millions of brackets and commas, and decoding them stops all other requests for
seconds. Most bodies are admitted by counting bytes. In others NumPy finds brackets, commas and quotes, a
part at a time, and the check ends at the first limit that is exceeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bentos.problems import invalid
from retail_core.arrays import BoolArray, IntArray

MAX_DEPTH = 64
"""Nested lists and objects, the outermost included."""

MAX_NAMES = 5_000
"""Names in one object."""

MAX_NESTED_ITEMS = 10_000
"""Items in a list that is inside of another value."""

MAX_VALUES = 500_000
"""Values in a body, those in lists and objects included."""

_PART_BYTES = 64 * 1024
_MAX_TOKENS = 6 * MAX_VALUES
_QUOTE, _OPEN_LIST, _OPEN_OBJECT, _CLOSE, _COMMA = 1, 2, 3, 4, 5
_KINDS = np.zeros(256, dtype=np.uint8)
for _byte, _kind in zip(b'"[{]},', (_QUOTE, _OPEN_LIST, _OPEN_OBJECT, _CLOSE, _CLOSE, _COMMA), strict=True):
    _KINDS[_byte] = _kind

RULES = (
    f"is nested deeper than {MAX_DEPTH} levels",
    f"an object has at most {MAX_NAMES} names",
    f"a list inside of another value has at most {MAX_NESTED_ITEMS} items",
)


@dataclass(frozen=True)
class OversizedItem:
    """An item of a list that exceeds a limit: its bytes in the body, and the rule that it breaks."""

    start: int
    end: int
    rule: str


@dataclass(frozen=True)
class _Tokens:
    """Brackets and commas outside of strings: positions, kinds, and the depth after each."""

    positions: IntArray
    kinds: IntArray
    depths: IntArray


def is_list(body: bytes) -> bool:
    """Whether the JSON text is a list."""
    return body.lstrip()[:1] == b"["


def oversized_items(body: bytes, max_items: int) -> dict[int, OversizedItem]:
    """Items of a list, by position, that exceed a limit; the body may be decoded without them.

    Args:
        body: JSON, which need not be valid: decoding refuses what is not.
        max_items: limit of the items, if the body is a list.

    Raises:
        Problem: 422 if the whole body exceeds a limit.
    """
    within_list = is_list(body)
    if _is_small(body, min(max_items, MAX_NAMES) if within_list else MAX_NAMES):
        return {}
    tokens = _read_tokens(body, max_items if within_list else MAX_NAMES, within_list=within_list)
    positions, rules = _faults(tokens)
    if not len(positions):
        return {}
    if not within_list:
        raise invalid("", RULES[rules[0]])
    return _by_item(tokens, positions, rules, len(body))


def _is_small(body: bytes, limit: int) -> bool:
    """Whether the body has fewer than `limit` items or names, judged by its length if that is enough."""
    has_few_values = len(body) < 2 * limit or body.count(b",") < limit
    return has_few_values and not (_has_many(body, b"[") or _has_many(body, b"{"))


def _has_many(body: bytes, bracket: bytes) -> bool:
    """Whether `MAX_DEPTH` brackets of both kinds may be exceeded; searching is faster than counting."""
    position = -1
    for _ in range(MAX_DEPTH // 2 + 1):
        position = body.find(bracket, position + 1)
        if position < 0:
            return False
    return True


def _read_tokens(body: bytes, limit: int, *, within_list: bool) -> _Tokens:
    """The tokens of the body, or of its beginning if that is not JSON.

    Raises:
        Problem: 422 if the outermost value has more than `limit` items or names, or the body too many values.
    """
    blocks: list[_Tokens] = []
    tokens = values = outer = depth = 0
    for positions, kinds, count in _parts(body):
        steps = (kinds <= _OPEN_OBJECT).astype(np.int64) - (kinds == _CLOSE)
        depths = depth + np.cumsum(steps)
        outer += int(np.count_nonzero((kinds == _COMMA) & (depths == 1)))
        values += int(np.count_nonzero(kinds != _CLOSE))
        tokens += count
        if outer >= limit:
            raise invalid("", f"a list has 1 to {limit} items, this one more" if within_list else RULES[1])
        if values > MAX_VALUES or tokens > _MAX_TOKENS:
            raise invalid("", f"a request has at most {MAX_VALUES} values")
        blocks.append(_Tokens(positions, kinds, depths))
        if depths.size:
            depth = int(depths[-1])
            if depths.min() < 0:
                break
    return _Tokens(
        np.concatenate([block.positions for block in blocks]),
        np.concatenate([block.kinds for block in blocks]),
        np.concatenate([block.depths for block in blocks]),
    )


def _parts(body: bytes) -> Iterator[tuple[IntArray, IntArray, int]]:
    """Positions and kinds of brackets and commas outside of strings, and the number with quotes, by part."""
    start, in_string = 0, 0
    while start < len(body):
        end = min(start + _PART_BYTES, len(body))
        while end < len(body) and body[end - 1] == ord("\\"):
            end += 1
        text = body[start:end]
        if b"\\" in text:
            text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        kinds = _KINDS[np.frombuffer(text, dtype=np.uint8)]
        positions = np.flatnonzero(kinds)
        kinds = kinds[positions]
        quotes = kinds == _QUOTE
        inside = (in_string + np.cumsum(quotes)) & 1
        if inside.size:
            in_string = int(inside[-1])
        outside: BoolArray = (inside == 0) & ~quotes
        yield positions[outside] + start, kinds[outside].astype(np.int64), len(kinds)
        start = end


def _faults(tokens: _Tokens) -> tuple[IntArray, IntArray]:
    """Opening brackets that break a rule of `RULES`: their positions, ascending, and the rules' numbers."""
    is_open = tokens.kinds != _COMMA
    is_open &= tokens.kinds != _CLOSE
    # Sorted by depth, the commas of a list or object follow its opening bracket.
    relevant = np.flatnonzero(tokens.kinds != _CLOSE)
    depths = np.minimum(tokens.depths[relevant], MAX_DEPTH + 1).astype(np.int16)
    order = relevant[np.argsort(depths, kind="stable")]
    starts = np.flatnonzero(is_open[order])
    commas = np.diff(np.append(starts, len(order))) - 1
    opening = order[starts]
    is_object = tokens.kinds[opening] == _OPEN_OBJECT
    too_deep = tokens.depths[opening] > MAX_DEPTH
    too_long = (commas >= np.where(is_object, MAX_NAMES, MAX_NESTED_ITEMS)) & (tokens.depths[opening] > 1)
    rules = np.select([too_deep, too_long & is_object, too_long], [0, 1, 2], -1)
    at_fault = np.flatnonzero(rules >= 0)
    positions = tokens.positions[opening[at_fault]]
    by_position = np.argsort(positions)
    return positions[by_position], rules[at_fault][by_position]


def _by_item(tokens: _Tokens, positions: IntArray, rules: IntArray, length: int) -> dict[int, OversizedItem]:
    """The first fault of each item, from `_faults`."""
    separators = tokens.positions[(tokens.kinds == _COMMA) & (tokens.depths == 1)]
    closing = tokens.positions[(tokens.kinds == _CLOSE) & (tokens.depths == 0)]
    end = int(closing[0]) if len(closing) else length
    boundaries = [int(tokens.positions[0]), *separators.tolist(), end]
    items, first = np.unique(np.searchsorted(separators, positions), return_index=True)
    return {
        item: OversizedItem(boundaries[item] + 1, boundaries[item + 1], RULES[rule])
        for item, rule in zip(items.tolist(), rules[first].tolist(), strict=True)
    }


def without_items(body: bytes, oversized: dict[int, OversizedItem]) -> bytes:
    """The body with null in place of these items."""
    pieces, end = [], 0
    for number in sorted(oversized):
        item = oversized[number]
        pieces += [body[end : item.start], b"null"]
        end = item.end
    return b"".join([*pieces, body[end:]])
