"""Users' stored events and attributes, and the shop's context, read without ever blocking the loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from bson.codec_options import CodecOptions
from pymongo.asynchronous.collection import AsyncCollection

from bentos.connection import Connection, Document
from retail_core.features.online.event_columns import EventColumns

BASE_SECONDS = 1.0
SECONDS_PER_USER = 0.05
FIELDS = tuple(name for name in EventColumns._fields if name not in {"event_id", "brand"})
"""What the online interpreter reads, beside `_id`, which MongoDB always gives."""

CONTEXT_SECONDS = 10.0
"""So long a day's context is kept: it changes when users are scored, and every answer needs it."""

ONE_BATCH = 1_000_000
"""So that the server sends as many events in one answer as fit into 16 MB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH, _MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)  # noqa: DTZ001 - as decoded
_AS_DATETIME: CodecOptions[Document] = CodecOptions()
"""Decoded in a third of the time that integers of milliseconds take."""


Span = tuple[datetime, datetime]


def spans_of(asked: Iterable[tuple[str, datetime]], lookback: timedelta) -> dict[Span, list[str]]:
    """What has to be read to answer as of these instants: users by span, overlapping spans of one as one."""
    instants: dict[str, set[datetime]] = defaultdict(set)
    for user, as_of in asked:
        instants[user].add(as_of)
    spans: dict[Span, list[str]] = defaultdict(list)
    for user, own in instants.items():
        end, *later = sorted(own)
        start = end - lookback
        for following in later:
            if following - lookback > end:
                spans[start, end].append(user)
                start = following - lookback
            end = following
        spans[start, end].append(user)
    return spans


class History:
    """Reads `events`, `users` and `context` of MongoDB."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._context: dict[str, tuple[float, dict[str, float | None] | None]] = {}

    async def events(self, spans: Mapping[Span, Sequence[str]]) -> dict[str, EventColumns]:
        """Stored events by user, those with start <= event_time < end of the user's spans.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        parts: list[Document] = [
            {"user_id": _any_of(users), "event_time": {"$gte": start, "$lt": end}}
            for (start, end), users in spans.items()
        ]
        query: Document = parts[0] if len(parts) == 1 else {"$or": parts}
        users = list({user for own in spans.values() for user in own})
        fields = dict.fromkeys(FIELDS if len(users) == 1 else ("user_id", *FIELDS), 1)

        async def ask(events: AsyncCollection[Document]) -> list[Document]:
            times = events.with_options(_AS_DATETIME)
            return await times.find(query, fields, batch_size=ONE_BATCH).to_list()

        found = await self._connection.ask("events", ask, _limit(users))
        if len(users) == 1:
            return {users[0]: _columns(found)} if found else {}
        by_user: dict[object, list[Document]] = defaultdict(list)
        for document in found:
            by_user[document["user_id"]].append(document)
        return {str(user): _columns(own) for user, own in by_user.items()}

    async def context(self, keys: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Stored context features by key (`context_key`); a day that was never stored is left out.

        They may be `CONTEXT_SECONDS` old.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """

        async def ask(collection: AsyncCollection[Document]) -> list[Document]:
            return await collection.find({"_id": {"$in": unknown}}, {"values": 1}).to_list()

        now = time.monotonic()
        kept = self._context = {key: one for key, one in self._context.items() if one[0] > now}
        unknown = [key for key in keys if key not in kept]
        if unknown:
            documents = await self._connection.ask("context", ask, BASE_SECONDS)
            found = {str(one["_id"]): cast("dict[str, float | None]", one["values"]) for one in documents}
            kept |= {key: (now + CONTEXT_SECONDS, found.get(key)) for key in unknown}
        return {key: values for key in keys if (values := kept[key][1]) is not None}

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


def _columns(documents: list[Document]) -> EventColumns:
    """Types are guaranteed by the store, and so is that times are whole milliseconds."""
    found: dict[str, list[Any]] = {name: [one.get(name) for one in documents] for name in FIELDS}
    moments: list[datetime] = found.pop("event_time")
    times = [(moment - _NAIVE_EPOCH) // _MICROSECOND for moment in moments]
    return EventColumns([str(one["_id"]) for one in documents], times, brand=[None] * len(documents), **found)
