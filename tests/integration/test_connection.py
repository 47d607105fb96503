"""The real-time service asks MongoDB: nobody suffers from another's question, and nothing is asked twice."""

from __future__ import annotations

import asyncio

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from bentos.connection import Connection, Document
from bentos.history import History
from retail_core.errors import DependencyError
from retail_core.store.mongo import Store

pytestmark = pytest.mark.integration

KEY = "2025-02-01 UTC 7d"


async def slow(collection: AsyncCollection[Document]) -> list[Document]:
    return await collection.find({"$where": "sleep(20000) || true"}).to_list()


async def quick(collection: AsyncCollection[Document]) -> Document | None:
    return await collection.find_one({"_id": KEY})


def test_a_question_past_its_own_limit_takes_mongodb_from_nobody(store: Store) -> None:
    store.context.insert_one({"_id": KEY, "values": {}})

    async def ask() -> tuple[int, object]:
        connection = Connection(store.settings)
        late = asyncio.create_task(connection.ask("context", slow, 0.5))
        answered = 0
        while not late.done():
            assert await connection.ask("context", quick, 60)
            answered += 1
        assert await connection.ask("context", quick, 60)
        await connection.close()
        return answered, late.exception()

    answered, failure = asyncio.run(ask())
    assert answered > 0
    assert isinstance(failure, DependencyError)


def test_a_day_without_context_is_remembered_like_any_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bentos.history.CONTEXT_SECONDS", 600.0)

    async def ask() -> list[dict[str, dict[str, float | None]]]:
        connection = Connection(store.settings)
        history = History(connection)
        before = await history.context([KEY])
        await asyncio.to_thread(store.context.insert_one, {"_id": KEY, "values": {"a": 1.0}})
        answers = [before, await history.context([KEY]), await History(connection).context([KEY])]
        await connection.close()
        return answers

    assert asyncio.run(ask()) == [{}, {}, {KEY: {"a": 1.0}}]
