"""Encoded histories of users in memory, for lists; `event_changes` notes which lack events."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from retail_core.attribution import IdPeriod
from retail_core.features.batch.encoded_histories import EncodedHistory, HistoryLayout
from retail_core.times import to_micros

SPAN_DAYS = 3
"""Cut-offs of this many days share one history, which is read that much longer than the look-back."""

ENTRY_BYTES = 1_000
"""Memory of an entry besides its rows: keys, objects and tables of references (measured: 700 to 900)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HistoryKey(NamedTuple):
    """A history: the events of a person's ids that serve the cut-offs of one span of days.

    Attributes:
        periods: the ids of the person, with the period of each id's events that are the person's.
        span: number of the span of days in which the cut-offs lie.
        lookback_days: the events begin so many days before the span.
    """

    periods: tuple[IdPeriod, ...]
    span: int
    lookback_days: int

    @classmethod
    def of(cls, periods: Iterable[IdPeriod], as_of: datetime, lookback_days: int) -> HistoryKey:
        """The history that serves a cut-off (aware)."""
        return cls(tuple(periods), (as_of - _EPOCH) // timedelta(days=SPAN_DAYS), lookback_days)

    @property
    def time_span(self) -> tuple[datetime, datetime]:
        """Start and end of the events, UTC."""
        start = _EPOCH + timedelta(days=self.span * SPAN_DAYS)
        return start - timedelta(days=self.lookback_days), start + timedelta(days=SPAN_DAYS)


@dataclass
class Reading:
    """What changed while histories were read; those are not added to the cache."""

    changed_ids: set[str] = field(default_factory=set)
    all_changed: bool = False


class CachedHistory(NamedTuple):
    """A history and the time (microseconds) from which on it lacks events; None if it is complete."""

    history: EncodedHistory
    complete_before: int | None = None


class HistoryCache:
    """Histories in memory, at most `limit_bytes`; those used longest ago are removed first.

    Used in the event loop only. A history that is read while its events change would miss the change if it
    were added afterwards; therefore histories are added with the `Reading` in which they were read.

    Attributes:
        size_bytes: memory of the entries.
        hits: histories that were present and complete when a list needed them.
        misses: histories that were not.
        clears: how often everything was removed.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = self.hits = self.misses = self.clears = 0
        self._entries: OrderedDict[HistoryKey, CachedHistory] = OrderedDict()
        self._keys_of_id: defaultdict[str, set[HistoryKey]] = defaultdict(set)
        self._readings: list[Reading] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: HistoryKey) -> bool:
        return key in self._entries

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """While histories are read, note what changes."""
        reading = Reading()
        self._readings.append(reading)
        try:
            yield reading
        finally:
            # By identity: readings without changes are equal.
            self._readings = [other for other in self._readings if other is not reading]

    def get(self, key: HistoryKey, layout: HistoryLayout) -> CachedHistory | None:
        """The history with this layout; None where it is not present."""
        cached = self._entries.get(key)
        if cached is None or cached.history.layout != layout:
            self.misses += 1
            return None
        if cached.complete_before is None:
            self.hits += 1
        else:
            self.misses += 1
        self._entries.move_to_end(key)
        return cached

    def put(self, key: HistoryKey, history: EncodedHistory, reading: Reading) -> None:
        """Add a history that was read within `reading`, unless its events changed meanwhile."""
        if reading.all_changed or not reading.changed_ids.isdisjoint(_ids(key)):
            return
        self._remove(key)
        if (size := _size(key, history)) > self.limit_bytes:
            return
        self._entries[key] = CachedHistory(history)
        self.size_bytes += size
        for user_id in _ids(key):
            self._keys_of_id[user_id].add(key)
        while self.size_bytes > self.limit_bytes:
            self._remove(next(iter(self._entries)))

    def event_was_stored(self, user_id: str, time: int) -> None:
        """Note that the histories of an id lack an event of that time (microseconds)."""
        for reading in self._readings:
            reading.changed_ids.add(user_id)
        for key in self._keys_of_id.get(user_id, ()):
            start, end = map(to_micros, key.time_span)
            if start <= time < end:
                history, complete_before = self._entries[key]
                earliest = time if complete_before is None else min(time, complete_before)
                self._entries[key] = CachedHistory(history, earliest)

    def clear(self) -> None:
        """Remove everything; events of any id may have changed."""
        for reading in self._readings:
            reading.all_changed = True
        self._entries.clear()
        self._keys_of_id.clear()
        self.size_bytes = 0
        self.clears += 1

    def _remove(self, key: HistoryKey) -> None:
        cached = self._entries.pop(key, None)
        if cached is None:
            return
        self.size_bytes -= _size(key, cached.history)
        for user_id in _ids(key):
            keys = self._keys_of_id[user_id]
            keys.discard(key)
            if not keys:
                del self._keys_of_id[user_id]


def _ids(key: HistoryKey) -> Sequence[str]:
    return list({period.user_id for period in key.periods})


def _size(key: HistoryKey, history: EncodedHistory) -> int:
    return len(history.rows) + len(history.names) + ENTRY_BYTES * len(key.periods)
