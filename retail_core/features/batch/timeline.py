"""The events of some users in order, and where the windows of their cut-offs begin and end among them.

A window of a cut-off is an interval of its user's events; two binary searches find it. Aggregates then need
no loop over the events of each cut-off: a count is a difference of positions, a sum a difference of running
sums. From an event's side, the cut-offs of its user whose window contains it are an interval of pairs too
(`first_pair_after`, `first_pair_beyond`), and so are those for which it is the last event of its item;
`sum_over_intervals` adds such intervals up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow

from retail_core.arrays import BoolArray, FloatArray, IntArray
from retail_core.features.time_windows import FeatureWindow


@dataclass(frozen=True)
class EventSubset:
    """A subset of the events as a list, and the bounds of every window in it.

    Attributes:
        positions: positions of these events in the timeline, ascending.
        starts: index in the list of the first event of each window, shape (windows, pairs).
        end: index in the list of the first event that is not before the cut-off, shape (pairs,).
        sort_keys: user and time of each of these events as one number, ascending.
    """

    positions: IntArray
    starts: IntArray
    end: IntArray
    sort_keys: IntArray

    @property
    def counts(self) -> IntArray:
        """Events in each window, shape (windows, pairs)."""
        return self.end - self.starts

    def sums(self, values: IntArray) -> IntArray:
        """Sums over each window of one value per listed event, shape (windows, pairs); exact in 64 bits."""
        running_sums = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, out=running_sums[1:])
        return np.asarray(running_sums[self.end] - running_sums[self.starts], np.int64)


class Timeline:
    """Events and pairs of whole users.

    Attributes:
        user: user of each event, counted from the first user on.
        ts: time of each event, microseconds.
        code: index of each event's type in `types`; their number for any other type.
        as_of: cut-off of each pair, microseconds.
        n_events: number of events.
        n_pairs: number of pairs.
        all_events: all events as a subset.
    """

    def __init__(
        self,
        events: pyarrow.Table,
        pairs: pyarrow.Table,
        windows: Sequence[FeatureWindow],
        types: Sequence[str],
    ) -> None:
        """Locate every window of every pair.

        Args:
            events: of the pairs' users; `uid`, `ts`, `code` and the columns that the features read, sorted
                by `EVENT_ORDER`.
            pairs: `uid`, `as_of`, sorted by them; at least one.
            windows: ascending; the last one is the look-back.
            types: names of the event types that have a code.
        """
        self._table = events
        self._type_codes = {name: code for code, name in enumerate(types)}
        self.n_events, self.n_pairs = len(events), len(pairs)
        self.ts, self.code = int_column(events, "ts"), int_column(events, "code")
        self.as_of = int_column(pairs, "as_of")
        first_user = int_column(pairs, "uid")[0]
        self.user = int_column(events, "uid") - first_user
        self._pair_user = int_column(pairs, "uid") - first_user
        self._origin = int(self.as_of.min()) - windows[-1].micros - 1
        self._span = int(self.as_of.max()) - self._origin + 1
        self._sort_keys = self._sort_key(self.user, self.ts)
        starts = np.empty((len(windows), self.n_pairs), np.int64)
        for row, window in zip(starts, windows, strict=True):
            row[:] = self.count_before(self.as_of - window.micros)
        end = self.count_before(self.as_of)
        self.all_events = EventSubset(np.arange(self.n_events), starts, end, self._sort_keys)
        self._subsets: dict[str | None, EventSubset] = {None: self.all_events}
        self._key_codes: dict[str, IntArray] = {}
        self._filled: dict[str, tuple[IntArray, BoolArray]] = {}

    def _sort_key(self, user: IntArray, ts: IntArray) -> IntArray:
        """User and time as one number; times outside all look-backs sort before or after all others."""
        return user * self._span + np.clip(ts - self._origin, 0, self._span - 1)

    def count_before(
        self, instants: IntArray, subset: EventSubset | None = None, pairs: IntArray | None = None
    ) -> IntArray:
        """Events of a subset before an instant of a pair, all events of earlier users included.

        Args:
            instants: one for each of `pairs`, microseconds.
            subset: None for all events.
            pairs: None for all pairs.
        """
        keys = self._sort_keys if subset is None else subset.sort_keys
        users = self._pair_user if pairs is None else self._pair_user[pairs]
        return np.asarray(np.searchsorted(keys, self._sort_key(users, instants)), np.int64)

    def of_type(self, event_type: str | None) -> EventSubset:
        """Events of one type (None: of any)."""
        if event_type not in self._subsets:
            code = self._type_codes.get(str(event_type), -1)
            self._subsets[event_type] = self._subset(self.code == code)
        return self._subsets[event_type]

    def _subset(self, mask: BoolArray) -> EventSubset:
        positions = np.flatnonzero(mask)
        starts, end = self.all_events.starts, self.all_events.end
        if not len(positions):
            return EventSubset(positions, np.zeros_like(starts), np.zeros_like(end), positions)
        running_sums = np.zeros(self.n_events + 1, np.int64)
        np.cumsum(mask, out=running_sums[1:])
        return EventSubset(positions, running_sums[starts], running_sums[end], self._sort_keys[positions])

    def numbers(self, column: str, positions: IntArray) -> tuple[IntArray, BoolArray]:
        """Numbers of these events, 0 where null, and whether they are not null."""
        if column not in self._filled:
            cells = self._table.column(column)
            filled, valid = cells.fill_null(0).to_numpy(), cells.is_valid().to_numpy()
            self._filled[column] = np.asarray(filled, np.int64), np.asarray(valid, np.bool_)
        values, not_null = self._filled[column]
        return values[positions], not_null[positions]

    def key_codes(self, key: str) -> IntArray:
        """Values of a key (see `EVENT_KEYS`) of all events as integer codes, -1 where null.

        A column of integers has such codes already; they may mean different values for different users.
        """
        if key not in self._key_codes:
            self._key_codes[key] = self._encode(self._table.column(key))
        return self._key_codes[key]

    @staticmethod
    def _encode(keys: pyarrow.ChunkedArray) -> IntArray:
        if pyarrow.types.is_integer(keys.type):
            return np.asarray(keys.to_numpy(), np.int64)
        encoded = keys.dictionary_encode().unify_dictionaries()
        chunks = [chunk.indices.fill_null(-1).to_numpy() for chunk in encoded.chunks]
        return np.concatenate([np.empty(0, np.int64), *chunks]).astype(np.int64)

    @cached_property
    def has_one_pair_per_user(self) -> bool:
        """Whether no user has more than one cut-off."""
        return bool((np.diff(self._pair_user) > 0).all())

    @cached_property
    def first_pair_after(self) -> IntArray:
        """First pair whose cut-off is after the event, for each event and one more entry for no event."""
        return self._first_pairs(self.all_events.end)

    @cached_property
    def first_pair_beyond(self) -> IntArray:
        """First pair from `first_pair_after` on whose window begins after the event, per window and event."""
        return np.array([self._first_pairs(starts) for starts in self.all_events.starts])

    def _first_pairs(self, bounds: IntArray) -> IntArray:
        return np.cumsum(np.bincount(bounds, minlength=self.n_events + 1))

    def sum_over_intervals(
        self, starts: IntArray, ends: IntArray, weights: IntArray | None = None
    ) -> IntArray:
        """For each pair the total weight (None: 1 each) of the intervals [start, end) that contain it."""
        size = self.n_pairs + 1
        if weights is None:
            changes = np.bincount(starts, minlength=size) - np.bincount(ends, minlength=size)
        else:
            changes = np.zeros(size, np.int64)
            np.add.at(changes, starts, weights)
            np.subtract.at(changes, ends, weights)
        return np.cumsum(changes)[:-1]


def int_column(table: pyarrow.Table, column: str) -> IntArray:
    """An integer column without nulls."""
    return np.asarray(table.column(column).to_numpy(), np.int64)


def null_safe_ratio(a: FloatArray | IntArray, b: FloatArray | IntArray) -> FloatArray:
    """A / b; NaN where b is 0 or either is NaN."""
    b = np.asarray(b, np.float64)
    return np.asarray(np.divide(a, b, out=np.full(b.shape, np.nan), where=b != 0), np.float64)


def null_unless(condition: BoolArray, values: FloatArray | IntArray) -> FloatArray:
    """The values where the condition holds; NaN elsewhere."""
    return np.where(condition, values, np.nan)
