"""Find the ids of the person whom a request asks about, as known at its cut-off, from stored identity links.

Separate from `history_reader`, which reads events and attributes of ids. In a shop without links one query in
`EMPTY_SECONDS` is all that is read.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from bentos.history_reader import BASE_SECONDS
from bentos.mongo_connection import Document, MongoConnection
from retail_core.attribution import MAX_LINKED_IDS, MIN_TIME, IdPeriod, Link, resolve
from retail_core.features.event_columns import EventColumns
from retail_core.times import to_micros

EMPTY_SECONDS = 10.0
"""How long a shop without links is taken to have none; events posted to this process end it at once."""

Cutoff = tuple[str, datetime]
Periods = Mapping[Cutoff, Sequence[IdPeriod]]
"""The ids of the persons of some (user, as_of), with the period of each id's events that are the person's."""

_FIELDS = {"from_id": 1, "to_id": 1, "linked_at": 1}


class PersonReader:
    """Reads the collection `identities`."""

    def __init__(self, connection: MongoConnection) -> None:
        self._connection = connection
        self._checked_until = 0.0
        self._is_empty = False

    def links_were_stored(self) -> None:
        """Look for links again from now on."""
        self._checked_until = 0.0

    async def periods(self, cutoffs: Iterable[Cutoff]) -> Periods:
        """The ids of each (user, as_of) whose person has other ids than the user.

        Raises:
            DependencyError: MongoDB does not answer within the limit.
        """
        if await self._has_no_links():
            return {}
        pairs = set(cutoffs)
        connected = await self._connected_links({user for user, _ in pairs}, max(as_of for _, as_of in pairs))
        incomplete = {pair for pair in pairs if pair[0] in connected.incomplete}
        periods = _periods(connected.links, pairs - incomplete)
        users_at: dict[datetime, set[str]] = defaultdict(set)
        for user, as_of in incomplete:
            users_at[as_of].add(user)
        for as_of, users in users_at.items():
            links = (await self._connected_links(users, as_of)).links
            periods |= _periods(links, {(user, as_of) for user in users})
        return periods

    async def _has_no_links(self) -> bool:
        now = time.monotonic()
        if now >= self._checked_until:
            first = await self._connection.run("identities", _first_document, BASE_SECONDS)
            self._is_empty, self._checked_until = first is None, now + EMPTY_SECONDS
        return self._is_empty

    async def _connected_links(self, users: Collection[str], as_of: datetime) -> _ConnectedLinks:
        """Links made before `as_of` that connect the users with other ids, directly or through others."""
        connected = _ConnectedLinks()
        waiting = set(users)
        read: set[str] = set()
        while waiting:
            read |= waiting
            for link in await self._links_of(sorted(waiting), as_of):
                connected.add(link)
            waiting = connected.ids_to_read() - read
        return connected

    async def _links_of(self, ids: Sequence[str], as_of: datetime) -> list[Link]:
        """Links of the ids; of an id with more than a person can have, enough to see that."""
        limit = (MAX_LINKED_IDS + 2) * len(ids)
        links = await self._find(ids, as_of, limit)
        if len(links) < limit:
            return links
        return [
            link for user_id in ids for link in await self._find([user_id], as_of, 2 * (MAX_LINKED_IDS + 2))
        ]

    async def _find(self, ids: Sequence[str], as_of: datetime, limit: int) -> list[Link]:
        named: object = ids[0] if len(ids) == 1 else {"$in": list(ids)}
        before = {"linked_at": {"$lt": as_of}}
        query: Document = {"$or": [{"from_id": named, **before}, {"to_id": named, **before}]}

        async def find(collection: AsyncCollection[Document]) -> list[Document]:
            return await collection.find(query, _FIELDS).limit(limit).to_list()

        documents = await self._connection.run("identities", find, BASE_SECONDS)
        return [_link(document) for document in documents]


@dataclass
class _ConnectedLinks:
    """Links, and the groups of ids that they connect.

    Attributes:
        links: links that were read.
        incomplete: ids of groups that are too large for a person, of which not all links were read.
    """

    links: list[Link] = field(default_factory=list)
    _group_of: dict[str, set[str]] = field(default_factory=dict)

    def add(self, link: Link) -> None:
        """Add a link and merge the groups of its ids."""
        self.links.append(link)
        first, second = (self._group_of.get(name, {name}) for name in link[:2])
        if first is not second:
            group = first | second
            self._group_of |= dict.fromkeys(group, group)

    @property
    def incomplete(self) -> set[str]:
        """Ids of groups that are too large for one person."""
        return {name for name, group in self._group_of.items() if len(group) > MAX_LINKED_IDS + 1}

    def ids_to_read(self) -> set[str]:
        """Ids of all other groups."""
        return self._group_of.keys() - self.incomplete


def _periods(links: Iterable[Link], pairs: Collection[Cutoff]) -> dict[Cutoff, Sequence[IdPeriod]]:
    identities = resolve(links)
    periods: dict[Cutoff, Sequence[IdPeriod]] = {}
    for user, as_of in pairs:
        instant = to_micros(as_of)
        of_person = identities.periods(identities.person(user, instant, instant), instant)
        if of_person != [IdPeriod(user)]:
            periods[user, as_of] = of_person
    return periods


def _link(document: Document) -> Link:
    linked_at: Any = document["linked_at"]
    return Link(str(document["from_id"]), str(document["to_id"]), int(linked_at) * 1_000)


async def _first_document(collection: AsyncCollection[Document]) -> Document | None:
    return await collection.find_one({}, {"_id": 1})


def ids_of(cutoffs: Iterable[Cutoff], periods: Periods) -> list[Cutoff]:
    """The (id, as_of) whose events are needed for (user, as_of)."""
    return [(period.user_id, cutoff[1]) for cutoff in cutoffs for period in periods_of(cutoff, periods)]


def events_of(cutoff: Cutoff, events: Mapping[str, EventColumns], periods: Periods) -> EventColumns:
    """The stored events of the person of (user, as_of).

    Args:
        cutoff: the user and the cut-off.
        events: stored events by id.
        periods: result of `PersonReader.periods`.
    """
    return merged_events(periods_of(cutoff, periods), events)


def periods_of(cutoff: Cutoff, periods: Periods) -> Sequence[IdPeriod]:
    """The ids of the person of (user, as_of), the user's alone where they have no other."""
    return periods.get(cutoff, (IdPeriod(cutoff[0]),))


def merged_events(periods: Sequence[IdPeriod], events: Mapping[str, EventColumns]) -> EventColumns:
    """The events of a person, from those of the ids."""
    if len(periods) == 1 and periods[0] == IdPeriod(periods[0].user_id):
        return events.get(periods[0].user_id, EventColumns())
    merged = EventColumns()
    for user_id, start, end in periods:
        merged = merged.append(events.get(user_id, EventColumns()).within(start, end))
    return merged


def attributes_of(
    cutoff: Cutoff, attributes: Mapping[str, Sequence[Document]], periods: Periods
) -> Sequence[Document]:
    """The attribute rows of the person of (user, as_of); arguments as of `events_of`."""
    if cutoff not in periods:
        return attributes.get(cutoff[0], ())
    return [
        row
        for user_id, start, end in periods[cutoff]
        for row in attributes.get(user_id, ())
        if start <= _valid_from_us(row) < end
    ]


def _valid_from_us(row: Document) -> int:
    valid_from = row["valid_from"]
    return to_micros(valid_from) if isinstance(valid_from, datetime) else MIN_TIME
