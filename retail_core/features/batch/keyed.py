"""Distinct keys, their shares, and open carts: stretches of cut-offs between events of one key.

An event is the last of its key at the cut-offs up to the user's next event with that key. As every key that
occurs in a window has one last event in it, distinct keys are a sum of such stretches, for any cut-offs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.features.batch.timeline import Ints, Timeline
from retail_core.features.kinds import CLOSING_ORDER, MAX_VALUE_MINOR

_ADD, _PURCHASE = CLOSING_ORDER["add_to_cart"], CLOSING_ORDER["purchase"]
_NEVER = np.iinfo(np.int64).max


def by_key(at: Ints, keys: Ints) -> Ints:
    """Places in `at` (ascending) in the order of their keys, those of a key in theirs."""
    bits = len(at).bit_length()
    packed = (keys << bits) | np.arange(len(at))
    packed.sort()
    return packed & ((1 << bits) - 1)


def following(timeline: Timeline, at: Ints, keys: Ints) -> Ints:
    """Of each event in `at` the user's next one in it with the same key (0 or more); else the last's end."""
    order = by_key(at, keys)
    key, user = keys[order], timeline.user[at[order]]
    same = (key[1:] == key[:-1]) & (user[1:] == user[:-1])
    after = np.full(len(at), timeline.events)
    after[order[:-1][same]] = at[order[1:][same]]
    return after


def distinct(timeline: Timeline, keys: Ints) -> Ints:
    """Distinct keys of the events (-1: none) in each window, shape (windows, pairs)."""
    at = np.flatnonzero(keys >= 0)
    enter, stop = timeline.enters[at], timeline.enters[following(timeline, at, keys[at])]
    seen = enter < np.minimum(stop, timeline.leaves[-1][at])
    at, enter, stop = at[seen], enter[seen], stop[seen]
    return np.array([timeline.held(enter, np.minimum(stop, leaves[at])) for leaves in timeline.leaves])


def squares(timeline: Timeline, keys: Ints) -> tuple[Ints, Ints]:
    """Events with a key (not -1) in the look-back, and the sum over keys of their numbers squared.

    n squared is n and twice the number of its pairs of events; a pair of events is a stretch of cut-offs
    from the entry of the later one to the leaving of the earlier one.
    """
    leaves = timeline.leaves[-1]
    at = np.flatnonzero((keys >= 0) & (timeline.enters[:-1] < leaves[:-1]))
    at = at[by_key(at, keys[at])]
    enter, leave = timeline.enters[at], leaves[at]
    key, user, place = keys[at], timeline.user[at], np.arange(len(at))
    group = np.zeros(len(at), np.int64)
    np.cumsum((key[1:] != key[:-1]) | (user[1:] != user[:-1]), out=group[1:])
    group *= timeline.pairs + 1
    earlier = place - np.searchsorted(group + leave, group + enter, side="right")
    later = np.searchsorted(group + enter, group + leave) - place - 1
    size = timeline.pairs + 1
    changes = np.bincount(enter, 1 + 2 * earlier, size) - np.bincount(leave, 1 + 2 * later, size)
    return timeline.held(enter, leave), np.cumsum(changes)[:-1].astype(np.int64)


@dataclass(frozen=True)
class OpenCarts:
    """Of each pair: additions open at its cut-off, their value, times of the oldest and the newest.

    The times mean nothing where nothing is open.
    """

    number: Ints
    worth: Ints
    oldest: Ints
    newest: Ints


def open_carts(timeline: Timeline) -> OpenCarts:
    """See `kinds.Cart`."""
    acts = np.flatnonzero(timeline.code < len(CLOSING_ORDER))
    code, items = timeline.code[acts], timeline.codes("item")[acts] + 1
    closed = np.minimum(
        following(timeline, acts, items), _next(timeline, acts, (code == _PURCHASE) & (items == 0))
    )
    adds = acts[code == _ADD]
    enter = timeline.enters[adds]
    leave = np.minimum(timeline.enters[closed[code == _ADD]], timeline.leaves[-1][adds])
    held = enter < leave
    adds, enter, leave = adds[held], enter[held], leave[held]
    ts = timeline.ts[adds]
    return OpenCarts(
        timeline.held(enter, leave),
        timeline.held(enter, leave, values(timeline, adds)),
        covering(timeline, enter, leave, -ts) * -1,
        covering(timeline, enter, leave, ts),
    )


def _next(timeline: Timeline, acts: Ints, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
    """Of each of `acts` the user's next one that is chosen; else the last's end."""
    targets = np.append(acts[chosen], timeline.events)
    after = targets[np.searchsorted(targets, acts, side="right")]
    users = np.append(timeline.user, -1)
    return np.where(users[after] == timeline.user[acts], after, timeline.events)


def covering(timeline: Timeline, enter: Ints, leave: Ints, values: Ints) -> Ints:
    """The greatest value of the stretches [enter, leave) that hold each pair; some number where none does.

    A stretch is two that overlap, of one power of 2 in length; those of each length are halved in turn.
    """
    level = np.frexp(leave - enter)[1] - 1
    best = np.full(timeline.pairs, -_NEVER)
    for power in range(int(level.max(initial=0)), -1, -1):
        here = level == power
        np.maximum.at(best, enter[here], values[here])
        np.maximum.at(best, leave[here] - (1 << power), values[here])
        if power:
            half, halved = 1 << (power - 1), best.copy()
            np.maximum(best[half:], best[:-half], out=halved[half:])
            best = halved
    return best


def values(timeline: Timeline, at: Ints) -> Ints:
    """Values of events in minor units, as `kinds.event_value` has them; 0 where unknown."""
    price, priced = timeline.known("price_minor", at)
    quantity, counted = timeline.known("quantity", at)
    pieces = np.minimum(np.where(counted, quantity, 1), MAX_VALUE_MINOR // np.maximum(price, 1))
    return np.where(priced, price * pieces, 0)
