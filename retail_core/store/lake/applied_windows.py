"""The set of applied ledger windows, stored in a fixed kind of application transactions of a Delta table.

Windows may be committed in any order, and a transaction keeps only the newest version of its id. The set is
therefore stored as inclusive ranges, one per id `windows:0`, `windows:1`, ...: a version holds the first and
the last window of a range. The first range is the watermark, the others are the exceptions above it. Ids of
ranges that were merged are set to 0 and used again, so their number is that of the gaps that are open at a
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

Ranges = tuple[tuple[int, int], ...]

_BITS = 31
_EMPTY = 0


def transaction_id(slot: int) -> str:
    """Id of the application transaction that holds the range `slot`."""
    return f"windows:{slot}"


def read_ranges(version_of: Callable[[str], int | None]) -> Ranges:
    """The stored ranges, ascending.

    Args:
        version_of: newest version of an application transaction; None without one.
    """
    versions = stored_versions(version_of).values()
    return tuple(
        sorted((version >> _BITS, version & (1 << _BITS) - 1) for version in versions if version != _EMPTY)
    )


def stored_versions(version_of: Callable[[str], int | None]) -> dict[str, int]:
    """Newest version of each transaction that holds a range."""
    versions: dict[str, int] = {}
    for name in map(transaction_id, count()):
        version = version_of(name)
        if version is None:
            return versions
        versions[name] = version
    raise AssertionError


def changed_versions(before: Ranges, after: Ranges) -> dict[str, int]:
    """Versions by id that store `after` where `before` is stored; the first id is always among them.

    Any two commits that apply windows therefore conflict, whatever windows they apply.

    Examples:
        >>> changed_versions(((1, 3), (5, 5)), ((1, 5),))
        {'windows:0': 2147483653, 'windows:1': 0}
    """
    versions = {}
    for slot in range(max(len(before), len(after), 1)):
        version = _version(after, slot)
        if slot == 0 or version != _version(before, slot):
            versions[transaction_id(slot)] = version
    return versions


def _version(window_ranges: Ranges, slot: int) -> int:
    if slot >= len(window_ranges):
        return _EMPTY
    first, last = window_ranges[slot]
    return first << _BITS | last


def contiguous(window_ranges: Ranges) -> int:
    """The watermark: the highest window up to which all windows are applied."""
    return window_ranges[0][1] if window_ranges and window_ranges[0][0] <= 1 else 0


def gaps(window_ranges: Ranges) -> list[tuple[int, int | None]]:
    """The inclusive ranges between the given ones and after the last, which has no end.

    >>> gaps(((1, 3), (7, 7)))
    [(4, 6), (8, None)]
    """
    bounds = [(0, 0), *window_ranges]
    ends: list[int | None] = [*(first - 1 for first, _ in window_ranges), None]
    between = ((last + 1, end) for (_, last), end in zip(bounds, ends, strict=True))
    return [(first, end) for first, end in between if end is None or first <= end]


def has_window(window_ranges: Ranges, window_id: int) -> bool:
    """Whether the window is applied."""
    return any(first <= window_id <= last for first, last in window_ranges)


def add_to_ranges(window_ranges: Ranges, numbers: Iterable[int]) -> Ranges:
    """Inclusive ranges with `numbers` added, ascending and merged.

    >>> add_to_ranges(((1, 3), (7, 7)), [5, 4, 9])
    ((1, 5), (7, 7), (9, 9))
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted([*window_ranges, *((number, number) for number in numbers)]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)
