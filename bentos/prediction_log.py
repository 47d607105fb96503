"""Log predictions to MongoDB's `prediction_log` asynchronously, so that no request waits for the write."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError

from bentos.messages import Answer
from bentos.mongo_connection import Document, MongoConnection
from retail_core.errors import DependencyError

QUEUE_SIZE = 20_000
BATCH_SIZE = 200
WRITE_INTERVAL_SECONDS = 0.1
RETRY_SECONDS = 5.0
TIMEOUT_SECONDS = 5.0
REPORT_SECONDS = 60.0
DUPLICATE_KEY = 11000

log = logging.getLogger("bentoml.serve")


class PredictionLog:
    """A bounded queue and the task that writes it. A prediction that finds it full is dropped and counted.

    Attributes:
        dropped: number of predictions that were not logged.
        written: number of predictions that were.
    """

    def __init__(self, connection: MongoConnection, *, enabled: bool = True) -> None:
        self._connection = connection
        self._enabled = enabled
        self._queue: deque[_Entry] = deque()
        self._reported_dropped = 0
        self._reported_at = 0.0
        self.dropped = 0
        self.written = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, predictions: Iterable[Answer], at: datetime) -> None:
        """Queue predictions made at `at` (aware); never waits."""
        if not self._enabled:
            return
        for prediction in predictions:
            if len(self._queue) >= QUEUE_SIZE:
                self.dropped += 1
            else:
                self._queue.append(_Entry(prediction, at))

    async def run(self) -> None:
        """Write the queue until cancelled."""
        while True:
            await asyncio.sleep(WRITE_INTERVAL_SECONDS)
            self._report_dropped(time.perf_counter())
            while self._queue:
                try:
                    await self._write_batch()
                except DependencyError:
                    await asyncio.sleep(RETRY_SECONDS)
                await asyncio.sleep(0)

    async def _write_batch(self) -> None:
        entries = [self._queue[position] for position in range(min(BATCH_SIZE, len(self._queue)))]
        batch = [entry.document() for entry in entries]

        async def insert(collection: AsyncCollection[Document]) -> None:
            try:
                await collection.insert_many(batch, ordered=False)
            except BulkWriteError as error:
                # A batch whose acknowledgement was lost is sent again, and its documents exist already.
                if any(failure["code"] != DUPLICATE_KEY for failure in error.details["writeErrors"]):
                    raise

        await self._connection.run("prediction_log", insert, TIMEOUT_SECONDS)
        for _ in batch:
            self._queue.popleft()
        self.written += len(batch)

    def _report_dropped(self, clock_seconds: float) -> None:
        newly_dropped = self.dropped - self._reported_dropped
        if newly_dropped and clock_seconds - self._reported_at > REPORT_SECONDS:
            log.error("The prediction log dropped %d predictions: MongoDB is too slow.", newly_dropped)
            self._reported_dropped, self._reported_at = self.dropped, clock_seconds


@dataclass(slots=True)
class _Entry:
    """A prediction and its time; its document is made when it is written, so that no list waits for it."""

    prediction: Answer
    at: datetime
    _id: ObjectId | None = None

    def document(self) -> Document:
        """The document, with the same `_id` whenever it is sent again."""
        if self._id is None:
            self._id = ObjectId()
        prediction = self.prediction
        return {
            "_id": self._id,
            "at": self.at,
            "user_id": prediction.user_id,
            "as_of": datetime.fromisoformat(prediction.as_of),
            "model_version": prediction.model_version,
            "policy": prediction.policy,
            "probability": prediction.probability,
            "history": prediction.history,
        }
