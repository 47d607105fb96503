"""Read histories into memory before a list asks: those of the users of the newest stored predictions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pymongo.asynchronous.collection import AsyncCollection

from bentos.history_cache import ENTRY_BYTES, HistoryKey
from bentos.mongo_connection import Document, MongoConnection
from bentos.stored_inputs import StoredInputReader
from retail_core.errors import DependencyError
from retail_core.features.feature_set import FeatureSet

PRELOADED_IDS = 12
"""Users whose events are read by one query: decoding them takes the event loop some 10 ms."""

FULL_SHARE = 0.9
"""Preloading ends when the histories take this share of their memory, so that it removes none."""

MAX_RESTARTS = 2
"""How often reading begins anew after one list."""

QUERY_SECONDS = 10.0
"""Time limit of the query for the users."""

log = logging.getLogger("bentoml.serve")


@dataclass(frozen=True)
class _Request:
    """The list that was asked last.

    Attributes:
        as_of: its cut-off; histories serve the cut-offs of some days.
        features: of the model that answered it.
        clears: how often the cache had been cleared when it was asked.
    """

    as_of: datetime
    features: FeatureSet
    clears: int

    @property
    def histories(self) -> tuple[int, str, int]:
        """Equal for lists that are served by the same histories."""
        return HistoryKey.of((), self.as_of, 0).span, self.features.hash, self.clears


class HistoryPreload:
    """After the first list, and whenever the histories in memory were removed, reads those of other users.

    Without lists nothing is read. It reads no more than half of the time.

    Args:
        inputs: reads the histories into its cache.
        connection: finds the users.
    """

    def __init__(self, inputs: StoredInputReader, connection: MongoConnection) -> None:
        self._inputs = inputs
        self._connection = connection
        self._request: _Request | None = None
        self._asked = asyncio.Event()
        self._reads = False
        self.preloaded = 0

    @property
    def is_active(self) -> bool:
        """Whether histories are being read, or will be in a moment."""
        return self._reads or self._asked.is_set()

    def list_was_asked(self, as_of: datetime, features: FeatureSet) -> None:
        """Preload the histories for this cut-off, unless that was done."""
        request = _Request(as_of, features, self._inputs.cache.clears)
        if self._request is None or request.histories != self._request.histories:
            self._request = request
            self._asked.set()

    async def run(self) -> None:
        """Preload whenever a list was asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            if (request := self._request) is None:
                continue
            self._reads = True
            try:
                await self._preload(request)
            except DependencyError as error:
                log.warning("Histories are not read ahead: %s", error.message)
                self._request = None
            finally:
                self._reads = False

    async def _preload(self, request: _Request) -> None:
        """Read the histories; begin anew where changes of events have removed those that were read.

        Not for ever: while much is ingested, they are removed all the time.
        """
        for _ in range(1 + MAX_RESTARTS):
            await self._read_histories(request)
            if request.clears == self._inputs.cache.clears or self._request is not request:
                return
            request = self._request = replace(request, clears=self._inputs.cache.clears)

    async def _read_histories(self, request: _Request) -> None:
        users = await self._connection.run("prediction_windows", self._users, QUERY_SECONDS)
        for chunk in _chunks(users):
            if not self._goes_on(request):
                return
            begun = time.monotonic()
            self.preloaded += await self._inputs.preload(
                [(user, request.as_of) for user in chunk], request.features
            )
            await asyncio.sleep(time.monotonic() - begun)

    def _goes_on(self, request: _Request) -> bool:
        cache = self._inputs.cache
        is_newest = self._request is request and cache.clears == request.clears
        return is_newest and cache.size_bytes < FULL_SHARE * cache.limit_bytes

    async def _users(self, windows: AsyncCollection[Document]) -> list[str]:
        """Users of the newest stored predictions, the most likely buyers first."""
        newest = {"collection": "predictions", "state": "whole"}
        window = await windows.find_one(newest, sort=[("as_of", -1)])
        if window is None:
            return []
        rows = windows.database["predictions"].find(
            {"as_of": window["as_of"], "model_version": window["model_version"]}, {"user_id": 1}
        )
        limit = self._inputs.cache.limit_bytes // ENTRY_BYTES + 1
        documents = await rows.sort("rank", 1).limit(limit).to_list()
        return [str(row["user_id"]) for row in documents]


def _chunks(users: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(users), PRELOADED_IDS):
        yield users[start : start + PRELOADED_IDS]
