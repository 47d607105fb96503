"""What the routes share: the model that answers, the stored history, and what is remembered of answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from bentos import models
from bentos.connection import Connection, Document
from bentos.history import History, spans_of
from bentos.intake import Item, Refused, sent_events
from bentos.meters import Meters
from bentos.posting import Poster
from bentos.prediction_log import PredictionLog
from bentos.predictor import Question, merge, predict
from bentos.problems import Problem, from_retail
from bentos.reasons import Asked, add_reasons, asking
from bentos.swap import Swapper
from bentos.views import not_stored
from bentos.wire import Answer
from retail_core.errors import DependencyError
from retail_core.features.cutoff_context import ContextFeatures, context_key, has_context_features, local_day
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.event_columns import EventColumns, OnlineEvent
from retail_core.settings import Settings

Outcome = Answer | Problem

AT_ONCE = 16
"""Items answered before other requests get their turn: a list of 1,000 delays nobody by its whole length."""

READ_TOGETHER = 48
"""Items whose histories are read in one question to MongoDB; the next are read while these are answered."""

READ_AHEAD = 3
"""Questions to MongoDB at the same time for one list, and so many answers to them are kept."""

PARSERS = 2
"""Threads for the events of requests."""

CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Stored:
    """What MongoDB holds of the users of one request; `away` says why it could not be asked.

    `context` is None for an instant on whose day the model needs one that is not stored.
    """

    events: Mapping[str, EventColumns] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    context: Mapping[datetime, ContextFeatures | None] = field(default_factory=dict)
    away: DependencyError | None = None


class Api:
    """One running service. Everything runs in its loop; only parsing events and loading models does not."""

    def __init__(self, settings: Settings, loaded: models.Loaded, meters: Meters) -> None:
        self.settings = settings
        self.meters = meters
        self._reading, self._behind = Connection(settings), Connection(settings)
        self.history = History(self._reading)
        self.poster = Poster(settings)
        self.log = PredictionLog(self._behind, enabled=settings.prediction_log)
        self.model = Swapper(settings, self._behind, self.meters, loaded)
        self.meters.gauges |= {
            "retail_prediction_log_waiting": ("Answers not yet in the prediction log", lambda: len(self.log)),
            "retail_prediction_log_dropped": ("Answers the prediction log lost", lambda: self.log.dropped),
            "retail_prediction_log_written": ("Answers in the prediction log", lambda: self.log.written),
            "retail_reload_refused": (
                "1 while production is refused",
                lambda: self.model.refused is not None,
            ),
        }
        self._explaining = ThreadPoolExecutor(1, "reasons")  # their second or two holds up nothing else
        self._parsing = ThreadPoolExecutor(PARSERS, "parsing")  # as the common pool may wait for others
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin what runs beside the requests; call it in their loop."""
        beside: list[Coroutine[Any, Any, None]] = [self.log.run(), self.model.run()]
        self._tasks = [asyncio.create_task(one) for one in beside]

    async def close(self) -> None:
        """End it, and let go of connections."""
        for task in self._tasks:
            task.cancel()
        # Until Python 3.12 a cancelled `wait_for`, as PyMongo uses it, may go on as if nothing were.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self._reading.close()
                await self._behind.close()
        await asyncio.to_thread(self.poster.close)
        for pool in (self._explaining, self._parsing):
            await asyncio.to_thread(pool.shutdown)

    async def answer(self, items: Sequence[Item | Refused]) -> list[Outcome]:
        """Answers or problems, in the order of the items; all of one model version."""
        loaded = self.model.loaded
        outcomes: list[Outcome] = []
        explained: list[Asked] = []
        async with aclosing(self._read(loaded, items)) as parts:
            async for part, stored in parts:
                if outcomes:
                    await asyncio.sleep(0)
                prepared = [await self._question(item, stored) for item in part]
                questions = [one for one in prepared if isinstance(one, Question)]
                found = predict(loaded.served, questions, self.meters.scored)
                explained += asking(questions, found)
                answers = iter(found)
                outcomes += [next(answers) if isinstance(one, Question) else one for one in prepared]
        if explained:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._explaining, add_reasons, loaded.served, explained)
        self.log.put((one for one in outcomes if isinstance(one, Answer)), datetime.now(UTC))
        return outcomes

    async def _read(
        self, loaded: models.Loaded, items: Sequence[Item | Refused]
    ) -> AsyncGenerator[tuple[Sequence[Item | Refused], Stored], None]:
        """The items, so many as are answered at once, with what is stored of them; some are read ahead."""
        if len(items) <= AT_ONCE:
            yield items, await self._stored(loaded, items)
            return
        parts = [items[start : start + READ_TOGETHER] for start in range(0, len(items), READ_TOGETHER)]
        unread = iter(parts)
        reading: deque[asyncio.Task[Stored]] = deque()

        def read_ahead() -> None:
            for part in islice(unread, READ_AHEAD - len(reading)):
                reading.append(asyncio.create_task(self._stored(loaded, part)))

        read_ahead()
        try:
            for part in parts:
                stored = await reading.popleft()
                read_ahead()
                for start in range(0, len(part), AT_ONCE):
                    yield part[start : start + AT_ONCE], stored
        finally:
            for task in reading:
                task.cancel()

    async def _stored(self, loaded: models.Loaded, items: Sequence[Item | Refused]) -> Stored:
        asked = [item for item in items if isinstance(item, Item) and item.features is None]
        if not asked:
            return Stored()
        feature_set = loaded.served.spec.feature_set
        users = list({item.user_id for item in asked})
        lookback = timedelta(days=feature_set.task.lookback_days)
        spans = spans_of(((item.user_id, item.as_of) for item in asked), lookback)
        try:
            events = await self.history.events(spans)
            attributes = await self.history.attributes(users) if feature_set.attributes else {}
            context = await self._context(feature_set, {item.as_of for item in asked})
        except DependencyError as error:
            return Stored(away=error)
        return Stored(events, attributes, context)

    async def _context(
        self, feature_set: FeatureSet, instants: Collection[datetime]
    ) -> dict[datetime, ContextFeatures | None]:
        if not has_context_features(feature_set.names):
            return {}
        question = feature_set.task
        keys = {as_of: context_key(local_day(as_of, question), question) for as_of in instants}
        found = await self.history.context(list({*keys.values()}))
        return {as_of: found.get(key) for as_of, key in keys.items()}

    async def _question(self, item: Item | Refused, stored: Stored) -> Question | Problem:
        if isinstance(item, Refused):
            return item.problem
        if item.features is not None:
            return Question(item.user_id, item.as_of, features=item.features, reasons=item.reasons)
        if stored.away is not None and item.rows is None:
            return from_retail(stored.away)
        try:
            sent = await self._parsed(item) if item.rows else []
        except Problem as problem:
            return problem
        context = stored.context.get(item.as_of, {})
        if context is None:
            self.meters.without_context += 1
        return Question(
            item.user_id,
            item.as_of,
            events=merge(stored.events.get(item.user_id, EventColumns()), sent),
            attribute_rows=stored.attributes.get(item.user_id, ()),
            context=context or {},
            history=_history(item, stored),
            warnings=_warnings(item, stored),
            reasons=item.reasons,
        )

    async def _parsed(self, item: Item) -> list[OnlineEvent]:
        return await asyncio.get_running_loop().run_in_executor(self._parsing, sent_events, item)


def _warnings(item: Item, stored: Stored) -> tuple[str, ...]:
    if stored.away is not None:
        return (f"Only the events of the request were used: {stored.away.message}",)
    return (not_stored(item.as_of),) if stored.context.get(item.as_of, {}) is None else ()


def _history(item: Item, stored: Stored) -> str:
    if stored.away is not None:
        return "request"
    return "stored" if item.rows is None else "stored+request"
