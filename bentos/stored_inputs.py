"""Read what MongoDB holds for the items of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import datetime

from bentos.event_changes import EventChanges
from bentos.history_cache import HistoryCache
from bentos.history_reader import HistoryReader, time_spans
from bentos.list_histories import ListHistories, ListRequest
from bentos.mongo_connection import Document, MongoConnection
from bentos.person_reader import Cutoff, Periods, PersonReader, ids_of
from bentos.request_items import DecodedItem
from retail_core.errors import DependencyError
from retail_core.features.batch.encoded_histories import ComputedFeatures
from retail_core.features.cutoff_context import ContextFeatures, context_key, has_context_features, local_day
from retail_core.features.event_columns import EventColumns
from retail_core.features.feature_set import FeatureSet

READ_SLOTS = 4
"""Requests whose inputs are read at the same time; the others wait before MongoDB's time limits begin."""


@dataclass(frozen=True)
class StoredInputs:
    """What MongoDB holds for the users of one request; `failure` says why it could not be read.

    `events` and `attributes` are by id; `periods` has the ids of users whose person has other ids.
    `context` is None for a cut-off on whose day the model needs context features that are not stored.
    Users of a long list have `computed` features instead of `events`, unless the request has events of them.
    """

    periods: Periods = field(default_factory=dict)
    events: Mapping[str, EventColumns] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    context: Mapping[datetime, ContextFeatures | None] = field(default_factory=dict)
    computed: Mapping[Cutoff, ComputedFeatures] = field(default_factory=dict)
    failure: DependencyError | None = None


class StoredInputReader:
    """Reads the events, attributes, identity links and context features that items need.

    Args:
        connection: for everything that requests wait for.
        cache_bytes: limit of the histories in memory; 0: every list reads its events.
        threads: compute the features of lists.
    """

    def __init__(self, connection: MongoConnection, cache_bytes: int, threads: Executor) -> None:
        self._slots = asyncio.Semaphore(READ_SLOTS)
        self.persons = PersonReader(connection)
        self.cache = HistoryCache(cache_bytes)
        self.changes = EventChanges(connection, self.cache)
        self._history = HistoryReader(connection)
        self._lists = ListHistories(self._history, self.cache, threads)

    async def read(self, items: Sequence[DecodedItem], feature_set: FeatureSet) -> StoredInputs:
        """What the items need, for the online interpreter; items with `features` need nothing."""
        if all(item.features is not None for item in items):
            return StoredInputs()
        async with self._slots:
            return await self._read(items, [], feature_set)

    async def read_list(
        self, items: Sequence[DecodedItem], feature_set: FeatureSet, *, use_cache: bool
    ) -> StoredInputs:
        """As `read`, with computed features of the items without events.

        Args:
            items: part of a list.
            feature_set: of the model.
            use_cache: result of `changes.catch_up` since the request came.
        """
        alone = [item for item in items if item.event_rows is not None]
        together = [item for item in items if item.event_rows is None]
        return await self._read(alone, together, feature_set, use_cache=use_cache)

    async def preload(self, cutoffs: Collection[Cutoff], feature_set: FeatureSet) -> int:
        """Read the histories of these (user, as_of) into the cache; returns how many it did not have.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        if not await self.changes.catch_up():
            return 0
        periods = await self.persons.periods(cutoffs)
        return await self._lists.preload(ListRequest(cutoffs, periods, {}, use_cache=True), feature_set)

    async def _read(
        self,
        alone: Sequence[DecodedItem],
        together: Sequence[DecodedItem],
        feature_set: FeatureSet,
        *,
        use_cache: bool = False,
    ) -> StoredInputs:
        """Events of the items `alone`, features of those `together`."""
        cutoffs, list_cutoffs = _cutoffs(alone), {*_cutoffs(together)}
        all_cutoffs = [*cutoffs, *list_cutoffs]
        if not all_cutoffs:
            return StoredInputs()
        try:
            periods = await self.persons.periods(all_cutoffs)
            ids = ids_of(cutoffs, periods)
            events = await self._history.events(time_spans(ids, feature_set.task.lookback)) if ids else {}
            users = list({user_id for user_id, _ in ids_of(all_cutoffs, periods)})
            attributes = await self._history.attributes(users) if feature_set.attributes else {}
            context = await self._context(feature_set, {as_of for _, as_of in all_cutoffs})
            computed: dict[Cutoff, ComputedFeatures] = {}
            if list_cutoffs:
                request = ListRequest(list_cutoffs, periods, context, use_cache)
                computed = await self._lists.compute(request, feature_set)
        except DependencyError as error:
            return StoredInputs(failure=error)
        return StoredInputs(periods, events, attributes, context, computed)

    async def _context(
        self, feature_set: FeatureSet, cutoffs: Collection[datetime]
    ) -> dict[datetime, ContextFeatures | None]:
        if not has_context_features(feature_set.names):
            return {}
        task = feature_set.task
        keys = {as_of: context_key(local_day(as_of, task), task) for as_of in cutoffs}
        stored = await self._history.context(list({*keys.values()}))
        return {as_of: stored.get(key) for as_of, key in keys.items()}


def _cutoffs(items: Sequence[DecodedItem]) -> list[Cutoff]:
    return [(item.user_id, item.as_of) for item in items if item.features is None]
