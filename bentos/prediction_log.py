"""Answers kept in MongoDB's `prediction_log`, behind the back of whoever waits for them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from datetime import datetime

from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from bentos.connection import Connection, Document
from bentos.wire import Answer
from retail_core.errors import DependencyError

WAITING = 20_000
BATCH = 200
EVERY_SECONDS = 0.1
PAUSE_SECONDS = 5.0
LIMIT_SECONDS = 5.0
ALARM_SECONDS = 60.0
DUPLICATE = 11000

log = logging.getLogger("bentoml.serve")


class PredictionLog:
    """A bounded queue and the task that empties it. What finds it full is dropped, counted and told.

    Attributes:
        dropped: answers that were not kept.
        written: answers that were.
    """

    def __init__(self, connection: Connection, *, enabled: bool = True) -> None:
        self._connection = connection
        self._enabled = enabled
        self._waiting: deque[Document] = deque()
        self._told = (0, 0.0)
        self.dropped = 0
        self.written = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, answers: Iterable[Answer], at: datetime) -> None:
        """Queue answers given at `at`; never waits."""
        if not self._enabled:
            return
        for answer in answers:
            if len(self._waiting) >= WAITING:
                self.dropped += 1
            else:
                self._waiting.append(_document(answer, at))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            self._alarm(time.perf_counter())
            while self._waiting:
                try:
                    await self._write()
                except DependencyError:
                    await asyncio.sleep(PAUSE_SECONDS)
                await asyncio.sleep(0)

    async def _write(self) -> None:
        batch = [self._waiting[place] for place in range(min(BATCH, len(self._waiting)))]

        async def insert(collection: AsyncCollection[Document]) -> None:
            try:
                await collection.insert_many(batch, ordered=False)
            except BulkWriteError as error:
                # A batch whose acknowledgement was lost is sent again: it is there already.
                if any(one["code"] != DUPLICATE for one in error.details["writeErrors"]):
                    raise

        await self._connection.ask("prediction_log", insert, LIMIT_SECONDS)
        for _ in batch:
            self._waiting.popleft()
        self.written += len(batch)

    def _alarm(self, now: float) -> None:
        told, last = self._told
        if self.dropped > told and now - last > ALARM_SECONDS:
            log.error("The prediction log lost %d answers: MongoDB is too slow.", self.dropped - told)
            self._told = (self.dropped, now)


def _document(answer: Answer, at: datetime) -> Document:
    return {
        "_id": ObjectId(),
        "at": at,
        "user_id": answer.user_id,
        "as_of": answer.as_of,
        "model_version": answer.model_version,
        "policy": answer.policy,
        "probability": answer.probability,
        "history": answer.history,
    }
