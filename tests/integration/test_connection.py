"""MongoDB reads of the service: a slow query affects no other one, and nothing is read twice."""

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


def test_an_operation_that_times_out_does_not_disconnect_the_others(store: Store) -> None:
    store.context.insert_one({"_id": KEY, "values": {}})

    async def read() -> tuple[int, object]:
        connection = MongoConnection(store.settings)
        late = asyncio.create_task(connection.run("context", slow, 0.5))
        answered = 0
        while not late.done():
            assert await connection.run("context", quick, 60)
            answered += 1
        assert await connection.run("context", quick, 60)
        await connection.close()
        return answered, late.exception()

    answered, failure = asyncio.run(read())
    assert answered > 0
    assert isinstance(failure, DependencyError)


def test_a_day_without_context_is_cached_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bentos.history_reader.CONTEXT_SECONDS", 600.0)

    async def read() -> list[dict[str, dict[str, float | None]]]:
        connection = MongoConnection(store.settings)
        history = HistoryReader(connection)
        before = await history.context([KEY])
        await asyncio.to_thread(store.context.insert_one, {"_id": KEY, "values": {"a": 1.0}})
        reads = [before, await history.context([KEY]), await HistoryReader(connection).context([KEY])]
        await connection.close()
        return reads

    assert asyncio.run(read()) == [{}, {}, {KEY: {"a": 1.0}}]


def test_only_the_requested_look_backs_are_read(store: Store) -> None:
    as_of, day = datetime(2025, 2, 1, tzinfo=UTC), timedelta(days=1)
    times = {"now": as_of - day, "between": as_of - 50 * day, "long ago": as_of - 101 * day, "later": as_of}
    store.events.insert_many(
        {"_id": name, "user_id": user, "event_time": time}
        for user, events in (("a", times), ("b", {"b": as_of - day}), ("c", {"c": as_of - day}))
        for name, time in events.items()
    )

    async def read() -> dict[str, list[str]]:
        connection = MongoConnection(store.settings)
        cutoffs = [("a", as_of), ("b", as_of), ("a", as_of - 100 * day)]
        columns_by_user = await HistoryReader(connection).events(time_spans(cutoffs, 28 * day))
        await connection.close()
        return {user: sorted(columns.event_id) for user, columns in columns_by_user.items()}

    assert asyncio.run(read()) == {"a": ["long ago", "now"], "b": ["b"]}
