"""One connection to MongoDB for everything that must never wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from retail_core.errors import DependencyError, RetailError
from retail_core.settings import Settings
from retail_core.store.mongod.embedded import ensure_mongod

TIMEOUT_MS = 500
PAUSE_SECONDS = 1.0

Document = dict[str, object]
T = TypeVar("T")
_MILLISECONDS: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
log = logging.getLogger("bentoml.serve")


class Connection:
    """Asks MongoDB with short time limits, in the loop of the caller.

    When MongoDB is away it says so at once for `PAUSE_SECONDS` before it tries again, so that nobody
    queues behind a dead server. A question that takes too long fails alone. An embedded server that has
    gone to sleep is started again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncMongoClient[Document] | None = None
        self._connecting: asyncio.Task[AsyncMongoClient[Document]] | None = None
        self._away_until = 0.0

    async def ask(
        self, name: str, question: Callable[[AsyncCollection[Document]], Awaitable[T]], seconds: float
    ) -> T:
        """What `question` says of the collection `name`; times in documents are integers of milliseconds.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        if time.perf_counter() < self._away_until:
            raise away("it did not answer a moment ago")
        client = None
        try:
            client = await self._connected()
            database = client.get_database(self._settings.mongodb_database, _MILLISECONDS)
            with pymongo.timeout(seconds):
                return await question(database[name])
        except PyMongoError as error:
            if not only_late(error):
                await self._forget(client)
            log.warning("MongoDB does not answer: %s", type(error).__name__)
            raise away(type(error).__name__) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncMongoClient[Document]:
        if self._client is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            connecting = self._connecting
            done, _ = await asyncio.wait({connecting}, timeout=TIMEOUT_MS / 1000)
            if not done:
                raise away("it is still starting")
            self._connecting = None
            self._client = connecting.result()
        return self._client

    async def _connect(self) -> AsyncMongoClient[Document]:
        try:
            uri = await asyncio.to_thread(self._uri)
        except RetailError as error:
            self._away_until = time.perf_counter() + PAUSE_SECONDS
            raise away(str(error)) from error
        return AsyncMongoClient(
            uri,
            serverSelectionTimeoutMS=TIMEOUT_MS,
            connectTimeoutMS=TIMEOUT_MS,
            appname="retail-api",
        )

    def _uri(self) -> str:
        if self._settings.mongodb_uri is not None:
            return self._settings.mongodb_uri.get_secret_value()
        return ensure_mongod(self._settings)

    async def _forget(self, used: AsyncMongoClient[Document] | None) -> None:
        if used is not self._client:
            return
        self._away_until = time.perf_counter() + PAUSE_SECONDS
        self._client = None
        if used is not None:
            await used.close()


def only_late(error: PyMongoError) -> bool:
    """Whether one question passed its own limit: that says nothing of the server or of other questions."""
    return error.timeout and not isinstance(error, ServerSelectionTimeoutError)


def away(why: str) -> DependencyError:
    """The error for a MongoDB that does not answer."""
    return DependencyError(
        f"MongoDB does not answer ({why}).",
        remedy="try again in a moment, or ask with `features` or `events`, which need no store.",
    )
