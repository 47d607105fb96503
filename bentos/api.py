"""What the routes share: the model that answers, the stored history, and a pool for what computes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bentos import models
from bentos.history import Document, History
from bentos.intake import Item, Refused, sent_events
from bentos.posting import Poster
from bentos.predictor import Question, merge, predict
from bentos.problems import Problem, from_retail
from bentos.wire import Answer
from retail_core.errors import DependencyError, RetailError
from retail_core.features.definitions import FeatureSet
from retail_core.features.shop_measures import context_key, local_day, sees_the_shop
from retail_core.settings import Settings

Outcome = Answer | Problem


@dataclass(frozen=True)
class Stored:
    """What MongoDB holds of the users of one request; `away` says why it could not be asked."""

    events: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    attributes: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    context: Mapping[datetime, Mapping[str, float | None]] = field(default_factory=dict)
    away: DependencyError | None = None


@dataclass
class Api:
    """One running service.

    A swap of the model is one assignment to `loaded`; each request reads it once, so that its answers
    come from one version.
    """

    settings: Settings
    loaded: models.Loaded
    history: History
    poster: Poster
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, "predict"))
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    reload_refused: str | None = None

    async def answer(self, items: Sequence[Item | Refused]) -> list[Outcome]:
        """Answers or problems, in the order of the items."""
        loaded = self.loaded
        stored = await self._stored(loaded, [item for item in items if isinstance(item, Item)])
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, _answer, loaded, items, stored)

    async def reload(self) -> models.Loaded:
        """Import, load and try what is under `production`; the old model stays if any of it fails.

        Raises:
            RetailError: why the new version was refused.
        """
        async with self.reloading:
            try:
                tag = await models.import_again(self.settings)
                self.loaded = await asyncio.to_thread(models.load, self.settings, tag)
            except RetailError as error:
                self.reload_refused = str(error)
                raise
            self.reload_refused = None
            return self.loaded

    async def close(self) -> None:
        """Let go of connections and threads."""
        await self.history.close()
        await asyncio.to_thread(self.poster.close)
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def _stored(self, loaded: models.Loaded, items: Sequence[Item]) -> Stored:
        asked = [item for item in items if item.features is None]
        if not asked:
            return Stored()
        feature_set = loaded.served.spec.feature_set
        users = list({item.user_id for item in asked})
        start = min(item.as_of for item in asked) - timedelta(days=feature_set.question.lookback_days)
        try:
            events = await self.history.events(users, start, max(item.as_of for item in asked))
            attributes = await self.history.attributes(users) if feature_set.attributes else {}
            context = await self._context(feature_set, {item.as_of for item in asked})
        except DependencyError as error:
            return Stored(away=error)
        return Stored(events, attributes, context)

    async def _context(
        self, feature_set: FeatureSet, instants: Collection[datetime]
    ) -> dict[datetime, Mapping[str, float | None]]:
        if not sees_the_shop(feature_set.names):
            return {}
        question = feature_set.question
        keys = {as_of: context_key(local_day(as_of, question), question) for as_of in instants}
        found = await self.history.context(list({*keys.values()}))
        return {as_of: found.get(key, {}) for as_of, key in keys.items()}


def _answer(loaded: models.Loaded, items: Sequence[Item | Refused], stored: Stored) -> list[Outcome]:
    prepared = [_question(item, stored) for item in items]
    answers = iter(predict(loaded.served, [one for one in prepared if isinstance(one, Question)]))
    return [next(answers) if isinstance(one, Question) else one for one in prepared]


def _question(item: Item | Refused, stored: Stored) -> Question | Problem:
    if isinstance(item, Refused):
        return item.problem
    if item.features is not None:
        return Question(item.user_id, item.as_of, features=item.features)
    if stored.away is not None and item.rows is None:
        return from_retail(stored.away)
    try:
        sent = sent_events(item)
    except Problem as problem:
        return problem
    return Question(
        item.user_id,
        item.as_of,
        events=merge(stored.events.get(item.user_id, ()), sent),
        attribute_rows=stored.attributes.get(item.user_id, ()),
        context=stored.context.get(item.as_of, {}),
        history=_history(item, stored),
        warnings=(f"Only the events of the request were used: {stored.away.message}",) if stored.away else (),
    )


def _history(item: Item, stored: Stored) -> str:
    if stored.away is not None:
        return "request"
    return "stored" if item.rows is None else "stored+request"
