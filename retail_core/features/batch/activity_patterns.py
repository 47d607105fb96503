"""Active days and sessions of every pair (see `kinds.Days`, `kinds.Gap`, `kinds.Sessions`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retail_core.arrays import BoolArray, IntArray
from retail_core.features.batch.timeline import EventSubset, Timeline
from retail_core.features.time_windows import DAY_US, SESSION_GAP_US, FeatureWindow

_DAYS_PER_WEEK = 7


class ActiveDays:
    """The active days of every pair: 24-hour blocks counted back from the cut-off with an event of a subset.

    They are found walking back from the cut-offs, all pairs at once: each binary search finds the newest
    event before the last block found, so that there are as many searches as a pair has active days.

    Attributes:
        count: active days in the look-back, shape (pairs,).
        span: days from the newest to the oldest.
        last_gap: days between the newest two; 0 where there are fewer.
        squared_gaps: sum of the squared gaps between neighbouring active days.
    """

    def __init__(self, timeline: Timeline, subset: EventSubset) -> None:
        self._steps: list[tuple[IntArray, IntArray]] = []
        self.count, self.span, self.last_gap, self.squared_gaps = np.zeros((4, timeline.n_pairs), np.int64)
        previous_block = np.zeros(timeline.n_pairs, np.int64)
        pairs = np.flatnonzero(subset.counts[-1])
        end = subset.end[pairs]
        while len(pairs):
            as_of = timeline.as_of[pairs]
            block = (as_of - 1 - timeline.ts[subset.positions[end - 1]]) // DAY_US
            if self._steps:
                gap = block - previous_block[pairs]
                self.span[pairs] += gap
                self.squared_gaps[pairs] += gap * gap
            if len(self._steps) == 1:
                self.last_gap[pairs] = gap
            previous_block[pairs] = block
            self.count[pairs] += 1
            self._steps.append((pairs, block))
            end = timeline.count_before(as_of - (block + 1) * DAY_US, subset, pairs)
            has_earlier = end > subset.starts[-1, pairs]
            pairs, end = pairs[has_earlier], end[has_earlier]

    def count_within(self, window: FeatureWindow, *, weekday: bool) -> IntArray:
        """Active days in the window; with `weekday` only those whole weeks before the coming 24 hours."""
        counts = np.zeros(len(self.count), np.int64)
        for pairs, block in self._steps:
            inside = block * DAY_US < window.micros
            if weekday:
                inside &= (block + 1) % _DAYS_PER_WEEK == 0
            counts[pairs[inside]] += 1
        return counts


def session_starts(timeline: Timeline, gap: int = SESSION_GAP_US) -> BoolArray:
    """Whether a session starts with the event, for each event and one more."""
    starts = np.ones(timeline.n_events + 1, np.bool_)
    starts[1:-1] = (np.diff(timeline.user) != 0) | (np.diff(timeline.ts) >= gap)
    return starts


def session_counts(timeline: Timeline, gap: int) -> IntArray:
    """Sessions started in each window, shape (windows, pairs); the look-back's first event starts one."""
    starts, all_events = session_starts(timeline, gap), timeline.all_events
    first = all_events.starts[-1]
    cut_by_lookback = (first < all_events.end) & ~starts[first]
    started = all_events.sums(starts[:-1].astype(np.int64))
    return np.asarray(started + ((all_events.starts == first) & cut_by_lookback), np.int64)


@dataclass(frozen=True)
class LastSessions:
    """The session of the last event of each pair, within the look-back; 0 without events."""

    events: IntArray
    carts: IntArray
    micros: IntArray


def last_sessions(timeline: Timeline) -> LastSessions:
    """See `kinds.LastSession`."""
    all_events, ts = timeline.all_events, timeline.ts
    positions = np.arange(timeline.n_events)
    session_start = np.maximum.accumulate(np.where(session_starts(timeline)[:-1], positions, 0))
    with_events = np.flatnonzero(all_events.counts[-1])
    end = all_events.end[with_events]
    start = np.maximum(session_start[end - 1], all_events.starts[-1, with_events])
    carts = timeline.of_type("add_to_cart").positions
    measures = np.zeros((3, timeline.n_pairs), np.int64)
    measures[0, with_events] = end - start
    measures[1, with_events] = np.searchsorted(carts, end) - np.searchsorted(carts, start)
    measures[2, with_events] = ts[end - 1] - ts[start]
    return LastSessions(*measures)
