"""Compute the features of a list of users at once, from cached histories and those read for this list."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from bentos.history_cache import CachedHistory, HistoryCache, HistoryKey, Reading
from bentos.history_reader import HistoryReader, TimeSpan
from bentos.person_reader import Cutoff, Periods, merged_events, periods_of
from retail_core.features.batch.encoded_histories import (
    ComputedFeatures,
    EncodedHistory,
    HistoryAtCutoff,
    HistoryLayout,
    compute_encoded,
    encode_history,
    history_layout,
)
from retail_core.features.cutoff_context import ContextFeatures
from retail_core.features.event_columns import EventColumns
from retail_core.features.feature_set import FeatureSet
from retail_core.times import from_micros, to_micros

READ_IDS = 48
"""Ids whose events are read by one MongoDB query, unless one person has more."""

CONCURRENT_READS = 3
"""Queries of all lists that run at the same time, which bounds the results in memory."""

MAX_EVENTS = 131_072
"""Events from which features are computed at once; arrays take some 300 bytes for each."""


@dataclass(frozen=True)
class ListRequest:
    """The users of a list whose features are computed from stored events alone.

    Attributes:
        cutoffs: the users and cut-offs.
        periods: result of `PersonReader.periods`.
        context: context features by cut-off; None where they are not stored.
        use_cache: whether the cache is up to date.
    """

    cutoffs: Collection[Cutoff]
    periods: Periods
    context: Mapping[datetime, ContextFeatures | None]
    use_cache: bool


class ListHistories:
    """Features by (user, as_of), equal to those that the online interpreter computes for each alone.

    Args:
        history: reads the events that the cache does not have.
        cache: the histories of earlier lists.
        threads: encode histories and compute features.
    """

    def __init__(self, history: HistoryReader, cache: HistoryCache, threads: Executor) -> None:
        self._history = history
        self._cache = cache
        self._threads = threads
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def compute(self, request: ListRequest, features: FeatureSet) -> dict[Cutoff, ComputedFeatures]:
        """The features of every (user, as_of).

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        keys = _keys(request, features)
        histories = await self._histories(
            {*keys.values()}, history_layout(features), use_cache=request.use_cache
        )
        items = {
            cutoff: HistoryAtCutoff(histories[key], cutoff[1], request.context.get(cutoff[1]) or {})
            for cutoff, key in keys.items()
        }
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _compute, items, features)

    async def preload(self, request: ListRequest, features: FeatureSet) -> int:
        """Read the histories that are not in the cache; returns how many.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        missing = {key for key in _keys(request, features).values() if key not in self._cache}
        await self._histories(missing, history_layout(features), use_cache=request.use_cache)
        return len(missing)

    async def _histories(
        self, keys: Collection[HistoryKey], layout: HistoryLayout, *, use_cache: bool
    ) -> dict[HistoryKey, EncodedHistory]:
        present = {key: self._cache.get(key, layout) if use_cache else None for key in keys}
        histories = {
            key: cached.history
            for key, cached in present.items()
            if cached is not None and cached.complete_before is None
        }
        chunks = list(_chunks({key: cached for key, cached in present.items() if key not in histories}))
        reading: AbstractContextManager[Reading | None]
        reading = self._cache.reading() if use_cache and chunks else nullcontext()
        with reading as changes:
            try:
                async with asyncio.TaskGroup() as group:
                    reads = [group.create_task(self._read(chunk, layout, changes)) for chunk in chunks]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures
        for read in reads:
            histories |= read.result()
        return histories

    async def _read(
        self, chunk: _Chunk, layout: HistoryLayout, reading: Reading | None
    ) -> dict[HistoryKey, EncodedHistory]:
        """Read the events that histories lack, and cache the histories where a `reading` is given."""
        ids = list({period.user_id for key in chunk.earlier for period in key.periods})
        async with self._reads:
            events = await self._history.events({chunk.time_span: ids}, committed=reading is not None)
            loop = asyncio.get_running_loop()
            histories = await loop.run_in_executor(self._threads, _encode, chunk, events, layout)
        if reading is not None:
            for key, history in histories.items():
                self._cache.put(key, history, reading)
        return histories


def _keys(request: ListRequest, features: FeatureSet) -> dict[Cutoff, HistoryKey]:
    days = features.task.lookback_days
    return {
        cutoff: HistoryKey.of(periods_of(cutoff, request.periods), cutoff[1], days)
        for cutoff in request.cutoffs
    }


@dataclass(frozen=True)
class _Chunk:
    """Histories of one span of days whose events are read by one query.

    Attributes:
        time_span: start and end of the events to read.
        earlier: the histories, with their cached events before that start.
    """

    time_span: TimeSpan
    earlier: Mapping[HistoryKey, EncodedHistory | None]


def _chunks(incomplete: Mapping[HistoryKey, CachedHistory | None]) -> Iterator[_Chunk]:
    """Chunks of few ids; histories that lack only late events are read from the earliest of these on."""
    groups: defaultdict[tuple[int, bool], list[HistoryKey]] = defaultdict(list)
    starts = {key: _missing_from(key, cached) for key, cached in incomplete.items()}
    for key in sorted(starts, key=starts.__getitem__):
        groups[key.span, incomplete[key] is None].append(key)
    for group in groups.values():
        keys: list[HistoryKey] = []
        for key in group:
            if keys and sum(len(other.periods) for other in keys) + len(key.periods) > READ_IDS:
                yield _chunk(keys, starts[keys[0]], incomplete)
                keys = []
            keys.append(key)
        yield _chunk(keys, starts[keys[0]], incomplete)


def _missing_from(key: HistoryKey, cached: CachedHistory | None) -> datetime:
    complete_before = None if cached is None else cached.complete_before
    return key.time_span[0] if complete_before is None else from_micros(complete_before)


def _chunk(
    keys: Sequence[HistoryKey], start: datetime, incomplete: Mapping[HistoryKey, CachedHistory | None]
) -> _Chunk:
    earlier: dict[HistoryKey, EncodedHistory | None] = {}
    for key in keys:
        cached = incomplete[key]
        earlier[key] = None if cached is None else cached.history.before(to_micros(start))
    return _Chunk((start, keys[0].time_span[1]), earlier)


def _encode(
    chunk: _Chunk, events: Mapping[str, EventColumns], layout: HistoryLayout
) -> dict[HistoryKey, EncodedHistory]:
    return {
        key: encode_history(merged_events(key.periods, events), layout, earlier)
        for key, earlier in chunk.earlier.items()
    }


def _compute(items: Mapping[Cutoff, HistoryAtCutoff], features: FeatureSet) -> dict[Cutoff, ComputedFeatures]:
    computed: dict[Cutoff, ComputedFeatures] = {}
    piece: dict[Cutoff, HistoryAtCutoff] = {}
    events = 0
    for cutoff, item in items.items():
        if piece and events + len(item.history) > MAX_EVENTS:
            computed |= _computed(piece, features)
            piece, events = {}, 0
        piece[cutoff] = item
        events += len(item.history)
    return computed | _computed(piece, features)


def _computed(
    piece: Mapping[Cutoff, HistoryAtCutoff], features: FeatureSet
) -> dict[Cutoff, ComputedFeatures]:
    return dict(zip(piece, compute_encoded(list(piece.values()), features), strict=True))
