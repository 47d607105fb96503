"""Read users' stored events and attributes, and the shop's context features, without blocking the loop."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from bson.codec_options import CodecOptions
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from bentos.mongo_connection import Document, MongoConnection
from retail_core.features.cutoff_context import ContextFeatures
from retail_core.features.event_columns import EventColumns, columns_read

BASE_SECONDS = 1.0
SECONDS_PER_USER = 0.05
EVENT_FIELDS = tuple(name for name in columns_read() if name != "event_id")
"""The fields that the online interpreter reads, beside `_id`, which MongoDB always returns."""

UNREAD_FIELDS = tuple(set(EventColumns._fields) - {"event_id", *EVENT_FIELDS})
"""Fields of `EventColumns` that no feature reads: null, since all columns have one length."""

CONTEXT_SECONDS = 10.0
"""How long a day's context features are cached: every prediction needs them, scoring runs change them."""

BATCH_SIZE = 1_000_000
"""Makes the server send as many documents per reply as fit into 16 MB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH, _MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)  # noqa: DTZ001 - as decoded
_AS_DATETIME: CodecOptions[Document] = CodecOptions()
"""Decodes times in a third of the time that integers of milliseconds take."""

_COMMITTED: dict[str, Any] = {
    "read_preference": ReadPreference.PRIMARY,
    "read_concern": ReadConcern("majority"),
}

TimeSpan = tuple[datetime, datetime]


def time_spans(cutoffs: Iterable[tuple[str, datetime]], lookback: timedelta) -> dict[TimeSpan, list[str]]:
    """The spans of events to read for these (user, as_of) pairs, each with its users.

    Overlapping look-backs of one user are merged into one span.
    """
    instants: dict[str, set[datetime]] = defaultdict(set)
    for user, as_of in cutoffs:
        instants[user].add(as_of)
    spans: dict[TimeSpan, list[str]] = defaultdict(list)
    for user, user_instants in instants.items():
        end, *later = sorted(user_instants)
        start = end - lookback
        for following in later:
            if following - lookback > end:
                spans[start, end].append(user)
                start = following - lookback
            end = following
        spans[start, end].append(user)
    return spans


class HistoryReader:
    """Reads the collections `events`, `users` and `context` of MongoDB."""

    def __init__(self, connection: MongoConnection) -> None:
        self._connection = connection
        self._context_cache: dict[str, tuple[float, ContextFeatures | None]] = {}

    async def events(
        self, spans: Mapping[TimeSpan, Sequence[str]], *, committed: bool = False
    ) -> dict[str, EventColumns]:
        """Stored events by user, those with start <= event_time < end of a span of the user.

        Args:
            spans: result of `time_spans`.
            committed: read from the primary server what a majority has, which no failover takes back.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        filters: list[Document] = [
            {"user_id": _equals_any(users), "event_time": {"$gte": start, "$lt": end}}
            for (start, end), users in spans.items()
        ]
        query: Document = filters[0] if len(filters) == 1 else {"$or": filters}
        users = list({user for span_users in spans.values() for user in span_users})
        projection = dict.fromkeys(EVENT_FIELDS if len(users) == 1 else ("user_id", *EVENT_FIELDS), 1)

        async def find(collection: AsyncCollection[Document]) -> list[Document]:
            events = collection.with_options(_AS_DATETIME, **(_COMMITTED if committed else {}))
            return await events.find(query, projection, batch_size=BATCH_SIZE).to_list()

        documents = await self._connection.run("events", find, _timeout_seconds(users))
        if len(users) == 1:
            return {users[0]: _columns(documents)} if documents else {}
        by_user: dict[object, list[Document]] = defaultdict(list)
        for document in documents:
            by_user[document["user_id"]].append(document)
        return {str(user): _columns(user_documents) for user, user_documents in by_user.items()}

    async def context(self, keys: Sequence[str]) -> dict[str, ContextFeatures]:
        """Stored context features by key (`context_key`), without the days that have none.

        They may be `CONTEXT_SECONDS` old.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """

        async def find(collection: AsyncCollection[Document]) -> list[Document]:
            return await collection.find({"_id": {"$in": missing_keys}}, {"values": 1}).to_list()

        now = time.monotonic()
        cache = {key: entry for key, entry in self._context_cache.items() if entry[0] > now}
        self._context_cache = cache
        missing_keys = [key for key in keys if key not in cache]
        if missing_keys:
            documents = await self._connection.run("context", find, BASE_SECONDS)
            stored = {str(row["_id"]): cast("ContextFeatures", row["values"]) for row in documents}
            cache |= {key: (now + CONTEXT_SECONDS, stored.get(key)) for key in missing_keys}
        return {key: features for key in keys if (features := cache[key][1]) is not None}

    async def attributes(self, users: Sequence[str]) -> dict[str, list[Document]]:
        """All attribute rows by user; `valid_from` is aware or None.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """

        async def find(collection: AsyncCollection[Document]) -> list[Document]:
            query: Document = {"user_id": _equals_any(users)}
            return await collection.find(query, {"_id": 0}, batch_size=BATCH_SIZE).to_list()

        by_user: dict[str, list[Document]] = defaultdict(list)
        for document in await self._connection.run("users", find, _timeout_seconds(users)):
            since: Any = document.get("valid_from")
            valid_from = None if since is None else _EPOCH + timedelta(milliseconds=int(since))
            by_user[str(document["user_id"])].append({**document, "valid_from": valid_from})
        return by_user


def _equals_any(users: Sequence[str]) -> object:
    return users[0] if len(users) == 1 else {"$in": list(users)}


def _timeout_seconds(users: Sequence[str]) -> float:
    return BASE_SECONDS + SECONDS_PER_USER * len(users)


def _columns(documents: list[Document]) -> EventColumns:
    """Documents as columns; the store guarantees the types, and times of whole milliseconds."""
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in documents] for name in EVENT_FIELDS}
    instants: list[datetime] = columns.pop("event_time")
    times = [(instant - _NAIVE_EPOCH) // _MICROSECOND for instant in instants]
    event_ids = [str(document["_id"]) for document in documents]
    columns |= {name: [None] * len(documents) for name in UNREAD_FIELDS}
    return EventColumns(event_ids, times, **columns)
