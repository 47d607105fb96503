"""The running service: reads stored histories, predicts, logs predictions, follows promotions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from bentos.admission import ListTurns
from bentos.context_refresh import ContextRefresher
from bentos.event_writer import EventWriter
from bentos.history_preload import HistoryPreload
from bentos.job_service import JobService
from bentos.messages import Answer, EventsAccepted, PromotionHistory
from bentos.model_loader import LoadedModel, ModelReloader
from bentos.mongo_connection import MongoConnection
from bentos.monitoring_gauges import MonitoringGauges
from bentos.person_reader import Cutoff, attributes_of, events_of
from bentos.prediction_log import PredictionLog
from bentos.predictor import (
    PreparedItem,
    add_reasons,
    merge_events,
    missing_context_warning,
    predict,
    with_requested_reasons,
)
from bentos.problems import Problem, from_retail
from bentos.promotion_history import read_history
from bentos.request_items import DecodedItem, DecodedRows, RejectedItem, parse_events
from bentos.run_alerts import AlertSender
from bentos.service_metrics import ServiceMetrics
from bentos.shadow_sampler import ShadowSampler
from bentos.stored_inputs import StoredInputReader, StoredInputs
from bentos.task_cancellation import cancel_tasks
from retail_core.features.event_columns import EventColumns, OnlineEvent
from retail_core.settings import Settings

AnswerOrProblem = Answer | Problem
Item = DecodedItem | RejectedItem

SLICE_ITEMS = 16
"""Items whose features are computed one by one without a pause; then other requests run, so that a list of
1,000 does not block them."""

LIST_SLICE_ITEMS = 128
"""Items that are predicted without a pause where their features are computed already."""

READ_ITEMS = 48
"""Items whose stored events are read together where the request has events too."""

LIST_READ_ITEMS = 500
"""Items whose features are computed together; a thread computes them while others are read or predicted."""

CONCURRENT_READS = 3
"""Blocks of one list that are read at the same time, which also bounds their memory."""

CONCURRENT_LISTS, WAITING_LISTS = 2, 16
"""Lists of more than `SLICE_ITEMS` that are predicted at the same time, and that may wait for that."""

LIST_THREADS = 2
"""Threads that compute the features of lists."""

PARSER_THREADS = 2
"""Threads that parse the events of requests."""

CLOSE_SECONDS = 5.0


class PredictionService:
    """The state of one real-time process and the prediction of items.

    Everything runs in the process's event loop, except parsing events, reasons and loading models.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: LoadedModel | None,
        metrics: ServiceMetrics,
        context_refresher: ContextRefresher | None = None,
    ) -> None:
        self.settings = settings
        self.context_refresher = context_refresher
        self.metrics = metrics
        self._read_connection, self._background_connection = (
            MongoConnection(settings),
            MongoConnection(settings),
        )
        self._list_turns = ListTurns(CONCURRENT_LISTS, WAITING_LISTS)
        self._list_threads = ThreadPoolExecutor(LIST_THREADS, "lists")
        cache_bytes = round(settings.history_cache_mb * 1_000_000)
        self.inputs = StoredInputReader(self._read_connection, cache_bytes, self._list_threads)
        self.preload = HistoryPreload(self.inputs, self._background_connection)
        self.event_writer = EventWriter(settings)
        self.jobs = JobService(settings)
        self.prediction_log = PredictionLog(self._background_connection, enabled=settings.prediction_log)
        self.alerts = AlertSender(settings, self._background_connection)
        self.reloader = ModelReloader(settings, self._background_connection, metrics, loaded)
        self.monitoring = MonitoringGauges(self._background_connection, settings.poll_seconds)
        self.shadow_sampler = ShadowSampler(
            settings, self._background_connection, lambda: self.reloader.version
        )
        self._register_gauges()
        # Reasons take seconds and events come from anybody: neither may fill asyncio's common thread pool.
        self._reason_thread = ThreadPoolExecutor(1, "reasons")
        self._parser_threads = ThreadPoolExecutor(PARSER_THREADS, "event-parser")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_model(self) -> bool:
        """Whether it can predict: a model is loaded."""
        return self.reloader.current is not None

    def _register_gauges(self) -> None:
        log, gauge = self.prediction_log, self.metrics.register_gauge
        gauge("retail_prediction_log_waiting", "Answers not yet in the prediction log", lambda: len(log))
        gauge("retail_prediction_log_dropped", "Answers the prediction log lost", lambda: log.dropped)
        gauge("retail_prediction_log_written", "Answers in the prediction log", lambda: log.written)
        shadow = self.shadow_sampler
        gauge("retail_shadow_answers_written", "Answers that a shadow scored too", lambda: shadow.written)
        cache = self.inputs.cache
        gauge("retail_history_cache_bytes", "Memory of the histories for lists", lambda: cache.size_bytes)
        gauge("retail_history_cache_hits", "Histories of lists that were in memory", lambda: cache.hits)
        gauge("retail_history_cache_misses", "Histories that were read for lists", lambda: cache.misses)
        preload = self.preload
        gauge("retail_histories_preloaded", "Histories read before a list asked", lambda: preload.preloaded)
        gauge("retail_histories_preloading", "1 while such are read", lambda: preload.is_active)
        reloader = self.reloader
        gauge("retail_model_loaded", "1 once a model is loaded", lambda: self.has_model)
        gauge("retail_reload_refused", "1 while production is refused", lambda: bool(reloader.reload_error))
        self.monitoring.register(self.metrics)

    def start(self) -> None:
        """Start the background tasks; call it in the event loop of the requests."""
        background: list[Coroutine[Any, Any, None]] = [
            self.prediction_log.run(),
            self.shadow_sampler.run(),
            self.reloader.run(),
            self.inputs.changes.run(),
            self.monitoring.run(),
            self.preload.run(),
            self.alerts.run(),
        ]
        if self.context_refresher is not None:
            background.append(self.context_refresher.run())
        self._tasks = [asyncio.create_task(coroutine) for coroutine in background]

    async def store_events(self, decoded: DecodedRows) -> EventsAccepted:
        """Store posted events; the shop context follows later, see `ContextRefresher`.

        Raises:
            Problem: as `EventWriter.write`.
        """
        accepted = await self.event_writer.write(decoded)
        if accepted.links:
            self.inputs.persons.links_were_stored()
        if accepted.inserted and self.context_refresher is not None:
            self.context_refresher.events_were_posted()
        return accepted

    async def promotion_history(self) -> PromotionHistory:
        """Every change of the version in production, newest first.

        Raises:
            DependencyError: MongoDB does not answer.
        """
        return await read_history(self._read_connection)

    async def close(self) -> None:
        """Stop the background tasks and close the connections."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await cancel_tasks(self._tasks)
                await self.inputs.changes.close()
                await self._read_connection.close()
                await self._background_connection.close()
        await asyncio.to_thread(self.event_writer.close)
        await asyncio.to_thread(self.jobs.close)
        await asyncio.to_thread(self.shadow_sampler.close)
        await asyncio.to_thread(self.alerts.close)
        for pool in (self._reason_thread, self._parser_threads, self._list_threads):
            await asyncio.to_thread(pool.shutdown)

    async def predict_items(self, items: Sequence[Item]) -> list[AnswerOrProblem]:
        """Predictions or problems in the order of the items; all of one model version.

        Raises:
            Problem: 503 if too many long lists wait.
        """
        if len(items) <= SLICE_ITEMS:
            return await self._predict_items(items)
        async with self._list_turns.turn():
            return await self._predict_items(items)

    async def _predict_items(self, items: Sequence[Item]) -> list[AnswerOrProblem]:
        loaded = self.reloader.loaded
        has_usual = loaded.served.usual_context is not None
        outcomes: list[AnswerOrProblem] = []
        to_explain: list[tuple[PreparedItem, Answer]] = []
        async with aclosing(self._read_slices(loaded, items)) as slices:
            async for item_slice, stored in slices:
                if outcomes:
                    await asyncio.sleep(0)
                prepared = [await self._prepare(item, stored, has_usual) for item in item_slice]
                valid = [entry for entry in prepared if isinstance(entry, PreparedItem)]
                predictions = predict(loaded.served, valid, self.metrics.record_scored)
                self.shadow_sampler.offer(loaded, valid, predictions)
                to_explain += with_requested_reasons(valid, predictions)
                remaining = iter(predictions)
                outcomes += [
                    next(remaining) if isinstance(entry, PreparedItem) else entry for entry in prepared
                ]
        if to_explain:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._reason_thread, add_reasons, loaded.served, to_explain)
        answered = (outcome for outcome in outcomes if isinstance(outcome, Answer))
        self.prediction_log.put(answered, datetime.now(UTC))
        return outcomes

    async def _read_slices(
        self, loaded: LoadedModel, items: Sequence[Item]
    ) -> AsyncGenerator[tuple[Sequence[Item], StoredInputs], None]:
        """The items in slices with their stored inputs, some of which are read ahead."""
        feature_set = loaded.served.spec.feature_set
        valid = [item for item in items if isinstance(item, DecodedItem)]
        if len(items) <= SLICE_ITEMS:
            yield items, await self.inputs.read(valid, feature_set)
            return
        by_history = any(item.features is None for item in valid)
        use_cache = by_history and await self.inputs.changes.catch_up()
        if use_cache:
            newest_cutoff = max(item.as_of for item in valid if item.features is None)
            self.preload.list_was_asked(newest_cutoff, feature_set)

        def read(block: Sequence[Item]) -> Coroutine[Any, Any, StoredInputs]:
            decoded = [item for item in block if isinstance(item, DecodedItem)]
            return self.inputs.read_list(decoded, feature_set, use_cache=use_cache)

        alone = any(item.event_rows is not None for item in valid)
        block_items, slice_items = (READ_ITEMS, SLICE_ITEMS) if alone else (LIST_READ_ITEMS, LIST_SLICE_ITEMS)
        blocks = [items[start : start + block_items] for start in range(0, len(items), block_items)]
        async with aclosing(_read_ahead(blocks, read)) as inputs:
            async for block, stored in inputs:
                for start in range(0, len(block), slice_items):
                    yield block[start : start + slice_items], stored

    async def _prepare(self, item: Item, stored: StoredInputs, has_usual: bool) -> PreparedItem | Problem:
        if isinstance(item, RejectedItem):
            return item.problem
        if item.features is not None:
            return PreparedItem(item.user_id, item.as_of, features=item.features, reasons=item.reasons)
        if stored.failure is not None and item.event_rows is None:
            return from_retail(stored.failure)
        try:
            sent = await self._parse_events(item) if item.event_rows else []
        except Problem as problem:
            return problem
        cutoff = (item.user_id, item.as_of)
        context = stored.context.get(item.as_of, {})
        if context is None:
            self.metrics.record_missing_context()
        computed = stored.computed.get(cutoff) if item.event_rows is None else None
        return PreparedItem(
            item.user_id,
            item.as_of,
            computed=computed,
            events=None if computed else _events(cutoff, stored, sent),
            attribute_rows=attributes_of(cutoff, stored.attributes, stored.periods),
            context=context or {},
            history=_history(item, stored),
            warnings=_warnings(item, stored, has_usual),
            reasons=item.reasons,
        )

    async def _parse_events(self, item: DecodedItem) -> list[OnlineEvent]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._parser_threads, parse_events, item)


async def _read_ahead(
    blocks: Sequence[Sequence[Item]], read: Callable[[Sequence[Item]], Coroutine[Any, Any, StoredInputs]]
) -> AsyncGenerator[tuple[Sequence[Item], StoredInputs], None]:
    """The blocks of a list with their stored inputs; `CONCURRENT_READS` of them are read at the same time."""
    unread = iter(blocks)
    reads: deque[asyncio.Task[StoredInputs]] = deque()

    def start_reads() -> None:
        for block in islice(unread, CONCURRENT_READS - len(reads)):
            reads.append(asyncio.create_task(read(block)))

    start_reads()
    try:
        for block in blocks:
            stored = await reads.popleft()
            start_reads()
            yield block, stored
    finally:
        for task in reads:
            task.cancel()


def _events(cutoff: Cutoff, stored: StoredInputs, sent: Sequence[OnlineEvent]) -> EventColumns:
    return merge_events(events_of(cutoff, stored.events, stored.periods), sent)


def _warnings(item: DecodedItem, stored: StoredInputs, has_usual: bool) -> tuple[str, ...]:
    if stored.failure is not None:
        return (f"Only the events of the request were used: {stored.failure.message}",)
    if stored.context.get(item.as_of, {}) is not None:
        return ()
    return (missing_context_warning(item.as_of, has_usual=has_usual),)


def _history(item: DecodedItem, stored: StoredInputs) -> str:
    """Where the events of an item come from, as in `Answer.history`."""
    if stored.failure is not None:
        return "request"
    return "stored" if item.event_rows is None else "stored+request"
