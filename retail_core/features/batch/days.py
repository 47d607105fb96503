"""How events lie in time: active days and sessions (see `kinds.Days`, `kinds.Sessions`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retail_core.features.batch.timeline import Among, Ints, Timeline
from retail_core.features.kinds import DAY_US, SESSION_GAP_US, Window

_WEEK = 7


class Blocks:
    """The active days of every pair: 24-hour blocks counted back from the cut-off with an event of a list.

    They are walked back from the cut-offs, all pairs at once: each bisection finds the newest event before
    the last block found, so that there are as many as a pair has active days.

    Attributes:
        number: how many there are in the look-back.
        span: from the newest to the oldest, days.
        last_gap: between the newest two, days; 0 where there are fewer.
        squares: sum of the squared gaps.
    """

    def __init__(self, timeline: Timeline, among: Among) -> None:
        """Find them."""
        self._steps: list[tuple[Ints, Ints]] = []
        self.number, self.span, self.last_gap, self.squares = np.zeros((4, timeline.pairs), np.int64)
        oldest = np.zeros(timeline.pairs, np.int64)
        pairs = np.flatnonzero(among.number[-1])
        place = among.end[pairs]
        while len(pairs):
            as_of = timeline.as_of[pairs]
            block = (as_of - 1 - timeline.ts[among.at[place - 1]]) // DAY_US
            if self._steps:
                gap = block - oldest[pairs]
                self.span[pairs] += gap
                self.squares[pairs] += gap * gap
            if len(self._steps) == 1:
                self.last_gap[pairs] = gap
            oldest[pairs] = block
            self.number[pairs] += 1
            self._steps.append((pairs, block))
            place = timeline.before(as_of - (block + 1) * DAY_US, among, pairs)
            more = place > among.begins[-1, pairs]
            pairs, place = pairs[more], place[more]

    def within(self, window: Window, *, weekday: bool) -> Ints:
        """How many end in the window, with `weekday` only those whole weeks before the coming 24 hours."""
        found = np.zeros(len(self.number), np.int64)
        for pairs, block in self._steps:
            counts = block * DAY_US < window.micros
            if weekday:
                counts &= (block + 1) % _WEEK == 0
            found[pairs[counts]] += 1
        return found


def session_starts(timeline: Timeline, gap: int = SESSION_GAP_US) -> npt.NDArray[np.bool_]:
    """Whether a session starts with the event, for each event and one more."""
    starts = np.ones(timeline.events + 1, np.bool_)
    starts[1:-1] = (np.diff(timeline.user) != 0) | (np.diff(timeline.ts) >= gap)
    return starts


def sessions(timeline: Timeline, gap: int) -> Ints:
    """Sessions started in each window, shape (windows, pairs); the look-back's first event starts one."""
    starts, whole = session_starts(timeline, gap), timeline.whole
    first = whole.begins[-1]
    begun = (first < whole.end) & ~starts[first]
    started = whole.sums(starts[:-1].astype(np.int64))
    return np.asarray(started + ((whole.begins == first) & begun), np.int64)


@dataclass(frozen=True)
class LastSessions:
    """The session of the last event of each pair, as far as the look-back holds it; 0 without events."""

    events: Ints
    carts: Ints
    micros: Ints


def last_sessions(timeline: Timeline) -> LastSessions:
    """See `kinds.LastSession`."""
    whole, ts = timeline.whole, timeline.ts
    latest = np.maximum.accumulate(np.where(session_starts(timeline)[:-1], np.arange(timeline.events), 0))
    seen = np.flatnonzero(whole.number[-1])
    end = whole.end[seen]
    start = np.maximum(latest[end - 1], whole.begins[-1, seen])
    carts = timeline.among("add_to_cart").at
    found = np.zeros((3, timeline.pairs), np.int64)
    found[0, seen] = end - start
    found[1, seen] = np.searchsorted(carts, end) - np.searchsorted(carts, start)
    found[2, seen] = ts[end - 1] - ts[start]
    return LastSessions(*found)
