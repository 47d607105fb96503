"""Follow changes of stored events by a change stream, so that cached histories are never behind MongoDB.

Whatever changes an event is seen: posts to any replica, ingestion, undo, erasure, restore, other programs.
Before a list uses the cache, the stream is read up to the present of the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bson import Timestamp
from pymongo.asynchronous.change_stream import AsyncCollectionChangeStream
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure, PyMongoError

from bentos.history_cache import HistoryCache
from bentos.mongo_connection import Document, MongoConnection
from retail_core.errors import DependencyError

MAX_CHANGES = 5_000
"""More changes than this at once, as of an ingestion, are not read: all histories are removed instead."""

CATCH_UP_SECONDS = 0.25
"""Time limit of reading changes; a list that exceeds it reads the events themselves."""

TIMEOUT_SECONDS = 1.0
"""Time limit of an answer of MongoDB."""

POLL_SECONDS = 1.0
"""Interval at which changes are read without a list, so that few are left for the next one."""

IDLE_SECONDS = 900.0
"""After this time without a list the stream is closed and the histories are removed."""

RETRY_SECONDS = 60.0
"""How long no stream is opened after MongoDB refused one."""

_CHANGES_PER_TURN = 200
"""Changes between two turns of other requests."""

_PIPELINE: list[dict[str, Any]] = [
    # An undo moves events that another file has brought too to that file's window; features are unaffected.
    {
        "$match": {
            "$expr": {
                "$ne": [
                    {
                        "$map": {
                            "input": {"$objectToArray": "$updateDescription.updatedFields"},
                            "in": "$$this.k",
                        }
                    },
                    ["window_id"],
                ]
            }
        }
    },
    {
        "$project": {
            "operationType": 1,
            "clusterTime": 1,
            "fullDocument.user_id": 1,
            "fullDocument.event_time": 1,
        }
    },
]
_TIMESTAMP_KEY = 0x82
"""First byte of a resume token: a timestamp of 8 bytes follows, the cluster time up to which it stands."""

log = logging.getLogger("bentoml.serve")


class EventChanges:
    """Notes in the cache which histories lack events; removes them where events were changed or deleted.

    Args:
        connection: used for the stream, among others.
        cache: the histories.
        poll_seconds: interval of `run`.
        idle_seconds: time without a list after which `run` ends the stream.
    """

    def __init__(
        self,
        connection: MongoConnection,
        cache: HistoryCache,
        *,
        poll_seconds: float = POLL_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._connection = connection
        self._cache = cache
        self._poll_seconds = poll_seconds
        self._idle_seconds = idle_seconds
        self._stream: AsyncCollectionChangeStream[Document] | None = None
        self._read_before: Timestamp | None = None
        self._stored_events = 0
        self._last_list = 0.0
        self._no_stream_until = 0.0
        self._lock = asyncio.Lock()

    async def catch_up(self) -> bool:
        """Whether the cache now has no history that is behind an event stored before this call.

        If not, the cache must not be used for this list.
        """
        self._last_list = time.monotonic()
        if not self._cache.limit_bytes or self._last_list < self._no_stream_until:
            return False
        return await self._catch_up()

    async def run(self) -> None:
        """Read changes at intervals until cancelled, while lists are asked for now and then."""
        while True:
            await asyncio.sleep(self._poll_seconds)
            if self._stream is None:
                continue
            if time.monotonic() - self._last_list > self._idle_seconds:
                await self.close()
            else:
                await self._catch_up()

    async def close(self) -> None:
        """Remove all histories and close the stream."""
        async with self._lock:
            await self._close()

    async def _catch_up(self) -> bool:
        async with self._lock:
            try:
                return await self._connection.run("events", self._advance, TIMEOUT_SECONDS)
            except DependencyError:
                await self._close()
                return False

    async def _close(self) -> None:
        self._cache.clear()
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(PyMongoError):
                await stream.close()

    async def _advance(self, events: AsyncCollection[Document]) -> bool:
        """Read the changes up to the present of the database, or begin anew; as `catch_up`."""
        try:
            status = await events.database.command({"count": events.name})
            previous, self._stored_events = self._stored_events, int(status["n"])
            stream = self._stream
            if stream is None or abs(self._stored_events - previous) > MAX_CHANGES:
                return await self._begin(events)
            complete = await self._read_changes(stream, status["operationTime"])
            return await self._begin(events) if complete is None else complete
        except OperationFailure as error:
            log.warning("Lists read all events, since their changes cannot be followed: %s", error.details)
            self._no_stream_until = time.monotonic() + RETRY_SECONDS
            await self._close()
            return False

    async def _begin(self, events: AsyncCollection[Document]) -> bool:
        """Remove all histories and follow the changes from now on.

        Histories are read as a majority of servers has them, so the changes that no majority has yet must
        be part of the stream. Those that it has are no changes of these histories; the stream begins with
        the last of them. A router of shards does not tell their time: nothing is cached there.
        """
        await self._close()
        hello = await events.database.command("hello")
        committed = hello.get("lastWrite", {}).get("majorityOpTime", {}).get("ts")
        if committed is None:
            self._no_stream_until = time.monotonic() + RETRY_SECONDS
            return False
        self._read_before = committed
        self._stream = await events.watch(
            _PIPELINE, start_at_operation_time=committed, max_await_time_ms=1, batch_size=MAX_CHANGES
        )
        return True

    async def _read_changes(
        self, stream: AsyncCollectionChangeStream[Document], present: Timestamp
    ) -> bool | None:
        """Whether the changes up to `present` were read in time; None if any user may be concerned."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        changes = 0
        while True:
            change = await stream.try_next()
            if change is None:
                # Only an empty reply says that all changes up to the time of its token were read.
                if (reached := _cluster_time(stream.resume_token)) is not None and reached >= present:
                    return True
                if time.monotonic() > deadline:
                    return False
                continue
            if self._read_before is not None and change["clusterTime"] <= self._read_before:
                continue
            changes += 1
            document: Any = change.get("fullDocument") or {}
            user_id, time_ms = document.get("user_id"), document.get("event_time")
            is_insert = change["operationType"] == "insert" and user_id is not None and time_ms is not None
            if not is_insert or changes > MAX_CHANGES:
                return None
            self._cache.event_was_stored(str(user_id), int(time_ms) * 1_000)
            if not changes % _CHANGES_PER_TURN:
                await asyncio.sleep(0)


def _cluster_time(resume_token: Mapping[str, Any] | None) -> Timestamp | None:
    """The time of the database up to which a resume token stands; None if its format is unknown.

    Source: MongoDB's `resume_token.cpp`; the first field of the key string is the cluster time.
    """
    try:
        key = bytes.fromhex(str((resume_token or {})["_data"])[:18])
    except (KeyError, ValueError):
        return None
    if len(key) < 9 or key[0] != _TIMESTAMP_KEY:
        return None
    return Timestamp(int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:9], "big"))
