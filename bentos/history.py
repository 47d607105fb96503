"""Users' stored events and attributes, and the shop's context, read without ever blocking the loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import cast

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from retail_core.errors import DependencyError, RetailError
from retail_core.features.online import OnlineEvent
from retail_core.settings import Settings
from retail_core.store.embedded import ensure_mongod

TIMEOUT_MS = 500
PAUSE_SECONDS = 1.0
BASE_SECONDS = 1.0
SECONDS_PER_USER = 0.01
FIELDS = OnlineEvent._fields[1:]
"""What the online interpreter reads, beside `_id`, which MongoDB always gives."""

Document = dict[str, object]
log = logging.getLogger("bentoml.serve")


class History:
    """Reads `events`, `users` and `context` of MongoDB with short time limits.

    When MongoDB is away it says so at once for `PAUSE_SECONDS` before it tries again, so that nobody
    queues behind a dead server. An embedded server that has gone to sleep is started again.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client: AsyncMongoClient[Document] | None = None
        self._connecting: asyncio.Task[AsyncMongoClient[Document]] | None = None
        self._away_until = 0.0

    async def events(self, users: Sequence[str], start: datetime, end: datetime) -> dict[str, list[Document]]:
        """Stored events with start <= event_time < end, by user, ascending in time.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        query = {"user_id": {"$in": list(users)}, "event_time": {"$gte": start, "$lt": end}}
        found = await self._find("events", query, dict.fromkeys(FIELDS, 1), _limit(users))
        by_user: dict[str, list[Document]] = defaultdict(list)
        for document in found:
            by_user[str(document["user_id"])].append(document)
        return by_user

    async def attributes(self, users: Sequence[str]) -> dict[str, list[Document]]:
        """All attribute rows by user.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        query: Document = {"user_id": {"$in": list(users)}}
        by_user: dict[str, list[Document]] = defaultdict(list)
        for document in await self._find("users", query, {"_id": 0}, _limit(users)):
            by_user[str(document["user_id"])].append(document)
        return by_user

    async def context(self, keys: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Stored context features by key (`context_key`); a day that was never stored is left out.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        query: Document = {"_id": {"$in": list(keys)}}
        found = await self._find("context", query, {"values": 1}, BASE_SECONDS)
        return {str(one["_id"]): cast("dict[str, float | None]", one["values"]) for one in found}

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _find(
        self, collection: str, query: Document, projection: Document, seconds: float
    ) -> list[Document]:
        if time.perf_counter() < self._away_until:
            raise _away("it did not answer a moment ago")
        try:
            client = await self._connected()
            cursor = client[self.settings.mongodb_database][collection].find(query, projection)
            with pymongo.timeout(seconds):
                found: list[Document] = await cursor.to_list()
        except PyMongoError as error:
            await self._forget()
            log.warning("MongoDB is away: %s", type(error).__name__)
            raise _away(type(error).__name__) from error
        return sorted(found, key=_order) if collection == "events" else found

    async def _connected(self) -> AsyncMongoClient[Document]:
        if self._client is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            connecting = self._connecting
            done, _ = await asyncio.wait({connecting}, timeout=TIMEOUT_MS / 1000)
            if not done:
                raise _away("it is still starting")
            self._connecting = None
            self._client = connecting.result()
        return self._client

    async def _connect(self) -> AsyncMongoClient[Document]:
        try:
            uri = await asyncio.to_thread(self._uri)
        except RetailError as error:
            self._away_until = time.perf_counter() + PAUSE_SECONDS
            raise _away(str(error)) from error
        return AsyncMongoClient(
            uri,
            tz_aware=True,
            serverSelectionTimeoutMS=TIMEOUT_MS,
            connectTimeoutMS=TIMEOUT_MS,
            appname="retail-api",
        )

    def _uri(self) -> str:
        if self.settings.mongodb_uri is not None:
            return self.settings.mongodb_uri.get_secret_value()
        return ensure_mongod(self.settings)

    async def _forget(self) -> None:
        self._away_until = time.perf_counter() + PAUSE_SECONDS
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def _limit(users: Sequence[str]) -> float:
    return BASE_SECONDS + SECONDS_PER_USER * len(users)


def _away(why: str) -> DependencyError:
    return DependencyError(
        f"MongoDB does not answer ({why}).",
        remedy="try again in a moment, or ask with `features` or `events`, which need no store.",
    )


def _order(document: Document) -> tuple[datetime, str]:
    moment = document["event_time"]
    if not isinstance(moment, datetime):
        raise TypeError(f"event {document['_id']} has no time")
    return moment, str(document["_id"])
