"""Users' stored events and attributes, and the shop's context, read without ever blocking the loop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, cast

from pymongo.asynchronous.collection import AsyncCollection

from bentos.connection import Connection, Document
from retail_core.features.online import OnlineEvent

BASE_SECONDS = 1.0
SECONDS_PER_USER = 0.01
FIELDS = OnlineEvent._fields[2:]
"""What the online interpreter reads, beside `_id`, which MongoDB always gives, and the user."""

_AFTER_TIME = FIELDS[1:]

ONE_BATCH = 1_000_000
"""So that the server sends as many events in one answer as fit into 16 MB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_in_order = attrgetter("event_time", "event_id")


class History:
    """Reads `events`, `users` and `context` of MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def events(
        self, users: Sequence[str], start: datetime, end: datetime
    ) -> dict[str, list[OnlineEvent]]:
        """Stored events with start <= event_time < end, by user, ascending in time.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        query: Document = {"user_id": _any_of(users), "event_time": {"$gte": start, "$lt": end}}
        fields = dict.fromkeys(FIELDS if len(users) == 1 else ("user_id", *FIELDS), 1)

        async def ask(events: AsyncCollection[Document]) -> list[Document]:
            return await events.find(query, fields, batch_size=ONE_BATCH).to_list()

        found = await self._connection.ask("events", ask, _limit(users))
        by_user: dict[str, list[OnlineEvent]] = defaultdict(list)
        only = users[0]
        for document in found:
            event = _event(document, only)
            by_user[event.user_id].append(event)
        for events in by_user.values():
            events.sort(key=_in_order)
        return by_user

    async def context(self, keys: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Stored context features by key (`context_key`); a day that was never stored is left out.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """

        async def ask(collection: AsyncCollection[Document]) -> list[Document]:
            return await collection.find({"_id": {"$in": list(keys)}}, {"values": 1}).to_list()

        found = await self._connection.ask("context", ask, BASE_SECONDS)
        return {str(one["_id"]): cast("dict[str, float | None]", one["values"]) for one in found}

    async def attributes(self, users: Sequence[str]) -> dict[str, list[Document]]:
        """All attribute rows by user; `valid_from` aware or None.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """

        async def ask(collection: AsyncCollection[Document]) -> list[Document]:
            cursor = collection.find({"user_id": _any_of(users)}, {"_id": 0}, batch_size=ONE_BATCH)
            return await cursor.to_list()

        by_user: dict[str, list[Document]] = defaultdict(list)
        for document in await self._connection.ask("users", ask, _limit(users)):
            since: Any = document.get("valid_from")
            moment = None if since is None else _EPOCH + timedelta(milliseconds=int(since))
            by_user[str(document["user_id"])].append({**document, "valid_from": moment})
        return by_user


def _any_of(users: Sequence[str]) -> object:
    return users[0] if len(users) == 1 else {"$in": list(users)}


def _limit(users: Sequence[str]) -> float:
    return BASE_SECONDS + SECONDS_PER_USER * len(users)


def _event(document: dict[str, Any], user_id: str) -> OnlineEvent:
    """As `online_event`, of a document whose types the store guarantees and whose time is milliseconds."""
    get = document.get
    rest: Iterator[Any] = map(get, _AFTER_TIME)
    moment = int(document["event_time"]) * 1000
    return OnlineEvent(document["_id"], get("user_id", user_id), moment, *rest)
