"""Score a sample of the answers with a shadow too, after they were sent, and store both probabilities.

No request waits for it: an answer is put into a short queue or left out. The shadow is loaded and predicts in
a thread of its own; whatever fails is logged, and the answers concerned are left out.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pymongo.asynchronous.collection import AsyncCollection

from bentos.messages import Answer
from bentos.model_loader import LoadedModel
from bentos.model_store import variables
from bentos.mongo_connection import Document, MongoConnection
from bentos.predictor import PreparedItem, predict
from bentos.problems import Problem
from retail_core.errors import RetailError
from retail_core.model.served_model import ServedModel, load_served_model
from retail_core.settings import Settings
from retail_core.subprocesses import call_json

QUEUE_SIZE = 200
"""Answers that wait for the shadow; each holds the events of its user."""

BATCH_SIZE = 16
PAUSE_SECONDS = 0.2
TIMEOUT_SECONDS = 5.0
RETRY_SECONDS = 600.0
"""Time after a failed attempt to load a shadow until the next."""

log = logging.getLogger("bentoml.serve")


@dataclass(frozen=True, slots=True)
class _Sampled:
    """An answer that was given at `at`, with the input of its prediction."""

    item: PreparedItem
    answer: Answer
    at: datetime


class ShadowSampler:
    """Follows the record of shadows and scores a share of the champion's answers with the newest one.

    Attributes:
        written: number of answers that were stored with both probabilities.
    """

    def __init__(
        self, settings: Settings, connection: MongoConnection, champion_version: Callable[[], str]
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._champion_version = champion_version
        self._queue: deque[_Sampled] = deque()
        self._thread = ThreadPoolExecutor(1, "shadow")
        self._random = np.random.default_rng()
        self._model: ServedModel | None = None
        self._champion = ""
        self._failed = ("", 0.0)
        self._polled_at = float("-inf")
        self.written = 0

    @property
    def enabled(self) -> bool:
        """Whether answers are sampled: needs a share, polling and MLflow, which has the shadow's files."""
        settings = self._settings
        return bool(settings.shadow_share and settings.poll_seconds and find_spec("mlflow"))

    def offer(
        self, champion: LoadedModel, items: Sequence[PreparedItem], outcomes: Sequence[Answer | Problem]
    ) -> None:
        """Put a random share of the answers into the queue; never waits."""
        if self._model is None or champion.served.spec.version != self._champion:
            return
        same_features = self._model.spec.feature_set.hash == champion.served.spec.feature_set.hash
        for item, outcome in zip(items, outcomes, strict=True):
            if self._random.random() >= self._settings.shadow_share or len(self._queue) >= QUEUE_SIZE:
                continue
            from_history = item.events is not None or (item.computed is not None and same_features)
            if isinstance(outcome, Answer) and from_history:
                self._queue.append(_Sampled(item, outcome, datetime.now(UTC)))

    async def run(self) -> None:
        """Follow the record and score the queue until cancelled."""
        while self.enabled:
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                if time.perf_counter() - self._polled_at >= self._settings.poll_seconds:
                    self._polled_at = time.perf_counter()
                    await self._follow_record()
                while self._queue and self._model is not None:
                    await self._score_batch(self._model)
            except RetailError as error:
                log.warning("Answers are not scored by the shadow: %s", error)
            except Exception:
                # A bug here must neither end the task nor reach a request.
                log.exception("Answers are not scored by the shadow")

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown()

    async def _follow_record(self) -> None:
        """Load the newest shadow of the version in use; without one, stop sampling."""
        champion = self._champion_version()
        version = await self._shadow_version(champion)
        if (version or None) != (self._model.spec.version if self._model else None):
            self._queue.clear()
            self._model = await self._load(version) if version else None
        self._champion = champion

    async def _shadow_version(self, champion: str) -> str:
        async def newest(shadows: AsyncCollection[Document]) -> Document | None:
            running = {"state": "running", "champion": champion}
            return await shadows.find_one(running, {"version": 1}, sort=[("_id", -1)])

        document = await self._connection.run("shadows", newest, TIMEOUT_SECONDS)
        return str(document["version"]) if document else ""

    async def _load(self, version: str) -> ServedModel | None:
        failed_version, failed_at = self._failed
        if version == failed_version and time.perf_counter() - failed_at < RETRY_SECONDS:
            return None
        self._failed = (version, time.perf_counter())
        environment = {**os.environ, **variables(self._settings)}
        copied = await asyncio.to_thread(call_json, "bentos.shadow_model", [version], environment)
        loop, folder = asyncio.get_running_loop(), Path(str(copied["folder"]))
        model = await loop.run_in_executor(self._thread, load_served_model, folder, version)
        self._failed = ("", 0.0)
        log.info("Version %s scores a sample of the answers silently.", version)
        return model

    async def _score_batch(self, model: ServedModel) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH_SIZE, len(self._queue)))]
        items = [entry.item for entry in batch]
        loop = asyncio.get_running_loop()
        outcomes = await loop.run_in_executor(self._thread, predict, model, items)
        documents = [
            _document(entry, outcome, model.spec.version)
            for entry, outcome in zip(batch, outcomes, strict=True)
            if isinstance(outcome, Answer)
        ]
        if not documents:
            return

        async def insert(collection: AsyncCollection[Document]) -> None:
            await collection.insert_many(documents, ordered=False)

        await self._connection.run("shadow_answers", insert, TIMEOUT_SECONDS)
        self.written += len(documents)


def _document(entry: _Sampled, outcome: Answer, version: str) -> Document:
    answer = entry.answer
    return {
        "at": entry.at,
        "user_id": answer.user_id,
        "as_of": entry.item.as_of,
        "policy": answer.policy,
        "model_version": answer.model_version,
        "shadow_version": version,
        "probability": answer.probability,
        "probability_shadow": outcome.probability,
    }
