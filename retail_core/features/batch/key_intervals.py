"""Distinct keys, their concentration, and open carts, from intervals of cut-offs between events of one key.

An event is the last one of its key at the cut-offs up to the user's next event with that key. As every key
that occurs in a window has one last event in it, the number of distinct keys is a sum of such intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, IntArray
from retail_core.features.batch.timeline import Timeline
from retail_core.features.kinds import CART_EVENT_ORDER, MAX_VALUE_MINOR

_ADD, _PURCHASE = CART_EVENT_ORDER["add_to_cart"], CART_EVENT_ORDER["purchase"]
_MAX_INT = np.iinfo(np.int64).max
_MAX_RADIX_KEY = np.iinfo(np.uint16).max


def sort_by_key(positions: IntArray, keys: IntArray) -> IntArray:
    """Indices into `positions` (ascending) in the order of their keys, those of a key in ascending order.

    NumPy sorts integers of 16 bits by radix, in a fifth of the time of the packed keys.
    """
    if len(keys) and keys.min() >= 0 and keys.max() <= _MAX_RADIX_KEY:
        return np.argsort(keys.astype(np.uint16), kind="stable")
    bits = len(positions).bit_length()
    packed = (keys << bits) | np.arange(len(positions))
    packed.sort()
    return packed & ((1 << bits) - 1)


def next_with_same_key(timeline: Timeline, positions: IntArray, keys: IntArray) -> IntArray:
    """Position of the user's next listed event with the same key (0 or more); `n_events` without one."""
    order = sort_by_key(positions, keys)
    key, user = keys[order], timeline.user[positions[order]]
    same = (key[1:] == key[:-1]) & (user[1:] == user[:-1])
    following = np.full(len(positions), timeline.n_events)
    following[order[:-1][same]] = positions[order[1:][same]]
    return following


def distinct_keys(timeline: Timeline, keys: IntArray) -> IntArray:
    """Distinct keys (-1: none) of the events in each window, shape (windows, pairs)."""
    positions = np.flatnonzero(keys >= 0)
    start = timeline.first_pair_after[positions]
    superseded = timeline.first_pair_after[next_with_same_key(timeline, positions, keys[positions])]
    visible = start < np.minimum(superseded, timeline.first_pair_beyond[-1][positions])
    positions, start, superseded = positions[visible], start[visible], superseded[visible]
    return np.array(
        [
            timeline.sum_over_intervals(start, np.minimum(superseded, beyond[positions]))
            for beyond in timeline.first_pair_beyond
        ]
    )


def squared_key_counts(timeline: Timeline, keys: IntArray) -> tuple[IntArray, IntArray]:
    """Events with a key (not -1) in the look-back, and the sum over keys of their squared counts, per pair.

    n squared is n plus twice the number of pairs of events; a pair of events is an interval of cut-offs
    from the later one's first cut-off to the one at which the earlier one has left the look-back.
    """
    beyond = timeline.first_pair_beyond[-1]
    positions = np.flatnonzero((keys >= 0) & (timeline.first_pair_after[:-1] < beyond[:-1]))
    positions = positions[sort_by_key(positions, keys[positions])]
    start, end = timeline.first_pair_after[positions], beyond[positions]
    key, user, index = keys[positions], timeline.user[positions], np.arange(len(positions))
    is_new = (key[1:] != key[:-1]) | (user[1:] != user[:-1])
    if timeline.has_one_pair_per_user:
        return _squared_group_sizes(timeline.n_pairs, start, is_new)
    group = np.zeros(len(positions), np.int64)
    np.cumsum(is_new, out=group[1:])
    size = timeline.n_pairs + 1
    group *= size
    earlier = index - np.searchsorted(group + end, group + start, side="right")
    later = np.searchsorted(group + start, group + end) - index - 1
    changes = np.bincount(start, 1 + 2 * earlier, size) - np.bincount(end, 1 + 2 * later, size)
    return timeline.sum_over_intervals(start, end), np.cumsum(changes)[:-1].astype(np.int64)


def _squared_group_sizes(n_pairs: int, pairs: IntArray, is_new: BoolArray) -> tuple[IntArray, IntArray]:
    """As `squared_key_counts` where the events of a key are all in the look-back of one pair.

    Args:
        n_pairs: number of pairs.
        pairs: pair of each event; events of a pair and key stand together.
        is_new: whether the next event has another pair or key.
    """
    first = np.flatnonzero(np.concatenate([[True], is_new])) if len(pairs) else np.zeros(0, np.int64)
    sizes = np.diff(first, append=len(pairs))
    counts = (np.bincount(pairs[first], weights, n_pairs) for weights in (sizes, sizes * sizes))
    events, squared = (count.astype(np.int64) for count in counts)
    return events, squared


@dataclass(frozen=True)
class OpenCarts:
    """The open cart of each pair: number of additions, their value, times of the oldest and the newest.

    The times are undefined where nothing is open.
    """

    count: IntArray
    value: IntArray
    oldest: IntArray
    newest: IntArray


def open_carts(timeline: Timeline) -> OpenCarts:
    """See `kinds.Cart`."""
    cart_events = np.flatnonzero(timeline.code < len(CART_EVENT_ORDER))
    code, items = timeline.code[cart_events], timeline.key_codes("item")[cart_events] + 1
    clears_cart = (code == _PURCHASE) & (items == 0)
    closed_at = np.minimum(
        next_with_same_key(timeline, cart_events, items), _next_marked(timeline, cart_events, clears_cart)
    )
    adds = cart_events[code == _ADD]
    start = timeline.first_pair_after[adds]
    end = np.minimum(timeline.first_pair_after[closed_at[code == _ADD]], timeline.first_pair_beyond[-1][adds])
    visible = start < end
    adds, start, end = adds[visible], start[visible], end[visible]
    ts = timeline.ts[adds]
    return OpenCarts(
        timeline.sum_over_intervals(start, end),
        timeline.sum_over_intervals(start, end, event_values(timeline, adds)),
        max_over_intervals(timeline, start, end, -ts) * -1,
        max_over_intervals(timeline, start, end, ts),
    )


def _next_marked(timeline: Timeline, positions: IntArray, marked: BoolArray) -> IntArray:
    """Position of the user's next marked event after each listed one; `n_events` where none follows."""
    targets = np.append(positions[marked], timeline.n_events)
    following = targets[np.searchsorted(targets, positions, side="right")]
    users = np.append(timeline.user, -1)
    return np.where(users[following] == timeline.user[positions], following, timeline.n_events)


def max_over_intervals(timeline: Timeline, starts: IntArray, ends: IntArray, values: IntArray) -> IntArray:
    """For each pair the greatest value of the intervals [start, end) that contain it; undefined without one.

    An interval is the union of two that overlap, each with a power of 2 as its length; from the longest
    length down, those of each length are split into halves (a sparse table, filled top down).
    """
    level = np.frexp(ends - starts)[1] - 1
    best = np.full(timeline.n_pairs, -_MAX_INT)
    for power in range(int(level.max(initial=0)), -1, -1):
        at_level = level == power
        np.maximum.at(best, starts[at_level], values[at_level])
        np.maximum.at(best, ends[at_level] - (1 << power), values[at_level])
        if power:
            half, halved = 1 << (power - 1), best.copy()
            np.maximum(best[half:], best[:-half], out=halved[half:])
            best = halved
    return best


def event_values(timeline: Timeline, positions: IntArray) -> IntArray:
    """Values of events in minor units, as `kinds.event_value` defines them; 0 where unknown."""
    price, has_price = timeline.numbers("price_minor", positions)
    quantity, has_quantity = timeline.numbers("quantity", positions)
    units = np.minimum(np.where(has_quantity, quantity, 1), MAX_VALUE_MINOR // np.maximum(price, 1))
    return np.where(has_price, price * units, 0)
