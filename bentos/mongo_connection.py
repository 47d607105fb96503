"""An asynchronous MongoDB connection with short time limits, for callers that must not wait."""

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
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError, ServerSelectionTimeoutError

from retail_core.errors import DependencyError, InputError, RetailError
from retail_core.settings import Settings
from retail_core.store.mongo.schema_versions import COLLECTION as SCHEMA_COLLECTION
from retail_core.store.mongo.schema_versions import check_versions
from retail_core.store.mongo.server_errors import check_options, client_error, mongodb_error
from retail_core.store.mongod.embedded import ensure_mongod

TIMEOUT_MS = 500
PAUSE_SECONDS = 1.0
"""How long calls fail immediately after MongoDB was unreachable."""

Document = dict[str, object]
Result = TypeVar("Result")
_MILLISECONDS: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
log = logging.getLogger("bentoml.serve")


class MongoConnection:
    """Runs operations on MongoDB in the caller's event loop, each with its own time limit.

    After MongoDB was unreachable, calls fail immediately for `PAUSE_SECONDS` before the next attempt, so
    that no queue forms. An operation that exceeds its time limit fails alone. An embedded server that has
    stopped because it was idle is started again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: AsyncMongoClient[Document] | None = None
        self._connecting: asyncio.Task[AsyncMongoClient[Document]] | None = None
        self._unreachable_until = 0.0
        self._has_checked_schema = False

    async def run(
        self,
        collection_name: str,
        operation: Callable[[AsyncCollection[Document]], Awaitable[Result]],
        timeout_seconds: float,
    ) -> Result:
        """Run `operation` on the collection and return its result.

        Times in documents are integer milliseconds.

        Raises:
            DependencyError: MongoDB does not answer within the limit, or a newer release has written the
                database.
        """
        if time.perf_counter() < self._unreachable_until:
            raise unreachable("it did not answer a moment ago")
        client = None
        try:
            client = await self._connected()
            database = client.get_database(self._settings.mongodb_database, _MILLISECONDS)
            with pymongo.timeout(timeout_seconds):
                if not self._has_checked_schema:
                    await self._check_schema(database)
                return await operation(database[collection_name])
        except PyMongoError as error:
            if not is_operation_timeout(error):
                await self._disconnect(client)
            log.warning("MongoDB does not answer: %s", mongodb_error(self._settings, error))
            raise unreachable(type(error).__name__) from error

    async def _check_schema(self, database: AsyncDatabase[Document]) -> None:
        try:
            check_versions(database.name, await database[SCHEMA_COLLECTION].find().to_list())
        except InputError as error:
            log.warning("%s", error)
            raise DependencyError(error.message, remedy=error.remedy) from error
        self._has_checked_schema = True

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncMongoClient[Document]:
        if self._client is None:
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
            connecting = self._connecting
            done, _ = await asyncio.wait({connecting}, timeout=TIMEOUT_MS / 1000)
            if not done:
                raise unreachable("it is still starting")
            self._connecting = None
            self._client = connecting.result()
        return self._client

    async def _connect(self) -> AsyncMongoClient[Document]:
        try:
            uri = await asyncio.to_thread(self._uri)
        except RetailError as error:
            self._unreachable_until = time.perf_counter() + PAUSE_SECONDS
            raise unreachable(str(error)) from error
        try:
            check_options(uri)
            return AsyncMongoClient(
                uri,
                serverSelectionTimeoutMS=TIMEOUT_MS,
                connectTimeoutMS=TIMEOUT_MS,
                appname="retail-api",
            )
        except (PyMongoError, ValueError, OSError) as error:
            cause = client_error(self._settings, error)
            log.warning("MongoDB cannot be used: %s", cause)
            raise unreachable(type(cause).__name__) from None

    def _uri(self) -> str:
        if self._settings.mongodb_uri is not None:
            return self._settings.mongodb_uri.get_secret_value()
        return ensure_mongod(self._settings)

    async def _disconnect(self, client: AsyncMongoClient[Document] | None) -> None:
        """Drop a client that failed, unless another call has replaced it already."""
        if client is not self._client:
            return
        self._unreachable_until = time.perf_counter() + PAUSE_SECONDS
        self._client = None
        if client is not None:
            await client.close()


def is_operation_timeout(error: PyMongoError) -> bool:
    """Whether one operation exceeded its own time limit, which does not mean that the server is down."""
    return error.timeout and not isinstance(error, ServerSelectionTimeoutError)


def unreachable(cause: str) -> DependencyError:
    """The error for a MongoDB that does not answer."""
    return DependencyError(
        f"MongoDB does not answer ({cause}).",
        remedy="try again in a moment, or ask with `features` or `events`, which need no store.",
    )
