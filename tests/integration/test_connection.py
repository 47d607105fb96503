"""The real-time service asks MongoDB: nobody suffers from another's question, and nothing is asked twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from bentos.history_reader import HistoryReader, time_spans
from bentos.mongo_connection import Document, MongoConnection
from retail_core.errors import DependencyError
from retail_core.store.mongo.connection import Store

pytestmark = pytest.mark.integration

KEY = "2025-02-01 UTC 7d"


async def slow(collection: AsyncCollection[Document]) -> list[Document]:
    return await collection.find({"$where": "sleep(20000) || true"}).to_list()


async def quick(collection: AsyncCollection[Document]) -> Document | None:
    return await collection.find_one({"_id": KEY})


def test_a_question_past_its_own_limit_takes_mongodb_from_nobody(store: Store) -> None:
    store.context.insert_one({"_id": KEY, "values": {}})

    async def ask() -> tuple[int, object]:
        connection = MongoConnection(store.settings)
        late = asyncio.create_task(connection.run("context", slow, 0.5))
        answered = 0
        while not late.done():
            assert await connection.run("context", quick, 60)
            answered += 1
        assert await connection.run("context", quick, 60)
        await connection.close()
        return answered, late.exception()

    answered, failure = asyncio.run(ask())
    assert answered > 0
    assert isinstance(failure, DependencyError)


def test_a_day_without_context_is_remembered_like_any_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.history_reader.CONTEXT_SECONDS", 600.0)

    async def ask() -> list[dict[str, dict[str, float | None]]]:
        connection = MongoConnection(store.settings)
        history = HistoryReader(connection)
        before = await history.context([KEY])
        await asyncio.to_thread(store.context.insert_one, {"_id": KEY, "values": {"a": 1.0}})
        answers = [before, await history.context([KEY]), await HistoryReader(connection).context([KEY])]
        await connection.close()
        return answers

    assert asyncio.run(ask()) == [{}, {}, {KEY: {"a": 1.0}}]


def test_only_the_look_backs_that_were_asked_for_are_read(store: Store) -> None:
    now, day = datetime(2025, 2, 1, tzinfo=UTC), timedelta(days=1)
    times = {"now": now - day, "between": now - 50 * day, "long ago": now - 101 * day, "later": now}
    store.events.insert_many(
        {"_id": name, "user_id": user, "event_time": time}
        for user, known in (("a", times), ("b", {"b": now - day}), ("c", {"c": now - day}))
        for name, time in known.items()
    )

    async def read() -> dict[str, list[str]]:
        connection = MongoConnection(store.settings)
        asked = [("a", now), ("b", now), ("a", now - 100 * day)]
        found = await HistoryReader(connection).events(time_spans(asked, 28 * day))
        await connection.close()
        return {user: sorted(columns.event_id) for user, columns in found.items()}

    assert asyncio.run(read()) == {"a": ["long ago", "now"], "b": ["b"]}
