"""Which person an event of an id belongs to at a cut-off, from identity links; see `docs/identity.md`.

A link says that `from_id` is the person `to_id` from `linked_at` on. At a cut-off only links made before it
are known. An event of a linked id belongs to the id that its latest link at or before the event names, or
else its first link; links of that id are followed in turn. Batch, labels and the service use the same
`Attribution`s. Times are microseconds since 1970 UTC.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

MAX_LINKED_IDS = 100
"""Ids that can be linked to a person. More are a placeholder such as `unknown`, or a device of many people,
which would merge strangers; a person with a hundred browsers is not one."""

MIN_TIME, MAX_TIME = -(2**63), 2**63 - 1
"""Before and after every instant."""


class Link(NamedTuple):
    """From `linked_at` (microseconds) on, `from_id` is the person `to_id`."""

    from_id: str
    to_id: str
    linked_at: int


class Attribution(NamedTuple):
    """Events of `user_id` in [start, end) are `person`'s at cut-offs in (known_from, known_until]."""

    user_id: str
    known_from: int
    known_until: int
    start: int
    end: int
    person: str


class IdPeriod(NamedTuple):
    """Events of `user_id` with start <= event_time < end."""

    user_id: str
    start: int = MIN_TIME
    end: int = MAX_TIME


@dataclass(frozen=True)
class ImplausibleLinks:
    """Connected ids whose links are not applied after `since`.

    Attributes:
        example: the id with the most links among them.
        ids: number of connected ids.
        links: number of their links.
        cycle: whether links lead back to an id; otherwise there are more than `MAX_LINKED_IDS` ids.
        since: the link that made them implausible was made at this time.
        members: the connected ids.
    """

    example: str
    ids: int
    links: int
    cycle: bool
    since: int
    members: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Identities:
    """Attributions of all ids that were ever linked to another one, and what was not applied.

    Attributes:
        attributions: rows of each id, by id, time of knowledge and time of event; together they cover every
            cut-off and event time once.
        implausible: groups of links that are not applied.
    """

    attributions: tuple[Attribution, ...] = ()
    implausible: tuple[ImplausibleLinks, ...] = ()

    @cached_property
    def _of_id(self) -> dict[str, list[Attribution]]:
        rows: dict[str, list[Attribution]] = {}
        for attribution in self.attributions:
            rows.setdefault(attribution.user_id, []).append(attribution)
        return rows

    @cached_property
    def _of_person(self) -> dict[str, list[Attribution]]:
        rows: dict[str, list[Attribution]] = {}
        for attribution in self.attributions:
            rows.setdefault(attribution.person, []).append(attribution)
        return rows

    def person(self, user_id: str, event_time: int, as_of: int) -> str:
        """The person to whom an event of `user_id` belongs at `as_of`."""
        for row in self._of_id.get(user_id, ()):
            if row.known_from < as_of <= row.known_until and row.start <= event_time < row.end:
                return row.person
        return user_id

    def periods(self, person: str, as_of: int) -> list[IdPeriod]:
        """The ids of a person at `as_of`, each with the period of its events that are the person's."""
        own_period = [] if person in self._of_id else [IdPeriod(person)]
        return own_period + [
            IdPeriod(row.user_id, row.start, row.end)
            for row in self._of_person.get(person, ())
            if row.known_from < as_of <= row.known_until
        ]


def resolve(links: Iterable[Link]) -> Identities:
    """Attributions of the ids in `links`; of several links of two ids the first counts."""
    ordered = _first_links(links)
    implausible_since, implausible = _implausible(_without_stars(ordered))
    links_of: dict[str, list[Link]] = {}
    for link in ordered:
        links_of.setdefault(link.from_id, []).append(link)
    rows: list[Attribution] = []
    for user_id in sorted(links_of):
        rows += _attributions(user_id, links_of, implausible_since.get(user_id, MAX_TIME))
    return Identities(tuple(rows), tuple(implausible))


def _first_links(links: Iterable[Link]) -> list[Link]:
    """The earliest link of each pair of different ids, by time, then by ids."""
    first: dict[tuple[str, str], int] = {}
    for link in links:
        key = (link.from_id, link.to_id)
        if link.from_id != link.to_id and link.linked_at < first.get(key, MAX_TIME):
            first[key] = link.linked_at
    return sorted((Link(*key, at) for key, at in first.items()), key=lambda link: (link.linked_at, link))


def _without_stars(links: Sequence[Link]) -> list[Link]:
    """The links but those of an id to which only unlinked ids with one link lead, at most `MAX_LINKED_IDS`.

    These are most links of a shop, and plausible.
    """
    outgoing = Counter(link.from_id for link in links)
    incoming = Counter(link.to_id for link in links)
    connected = {to_id for to_id, count in incoming.items() if count > MAX_LINKED_IDS or to_id in outgoing}
    connected |= {link.to_id for link in links if outgoing[link.from_id] > 1 or link.from_id in incoming}
    return [link for link in links if link.to_id in connected]


def _attributions(user_id: str, links_of: Mapping[str, list[Link]], until: int) -> Iterator[Attribution]:
    """Rows of one id; its links count at cut-offs up to `until`."""
    first, *further = links_of[user_id]
    if not further and first.to_id not in links_of and until == MAX_TIME:
        yield Attribution(user_id, MIN_TIME, first.linked_at, MIN_TIME, MAX_TIME, user_id)
        yield Attribution(user_id, first.linked_at, MAX_TIME, MIN_TIME, MAX_TIME, first.to_id)
        return
    links = _links_onwards(user_id, links_of, until)
    instants = sorted({link.linked_at for link in links})
    periods: list[tuple[int, int, list[tuple[int, int, str]]]] = []
    end_of_knowledge = [until, MAX_TIME] if until < MAX_TIME else [MAX_TIME]
    for known_from, known_until in pairwise([MIN_TIME, *instants, *end_of_knowledge]):
        known_links = [link for link in links if link.linked_at <= known_from < until]
        owners = _owners(user_id, known_links)
        if periods and periods[-1][2] == owners:
            periods[-1] = (periods[-1][0], known_until, owners)
        elif known_from < known_until:
            periods.append((known_from, known_until, owners))
    for known_from, known_until, owners in periods:
        for start, end, person in owners:
            yield Attribution(user_id, known_from, known_until, start, end, person)


def _links_onwards(user_id: str, links_of: Mapping[str, list[Link]], until: int) -> list[Link]:
    """Links before `until` that lead on from the id, directly or through other ids."""
    reached, waiting, onwards = {user_id}, [user_id], []
    while waiting:
        for link in links_of.get(waiting.pop(), ()):
            if link.linked_at >= until:
                break
            onwards.append(link)
            if link.to_id not in reached:
                reached.add(link.to_id)
                waiting.append(link.to_id)
    return onwards


def _owners(user_id: str, known_links: Sequence[Link]) -> list[tuple[int, int, str]]:
    """Periods [start, end) of event time and the person who owns the id's events in each."""
    links_of: dict[str, list[Link]] = {}
    for link in sorted(known_links, key=attrgetter("linked_at", "to_id")):
        links_of.setdefault(link.from_id, []).append(link)
    bounds = [MIN_TIME, *sorted({link.linked_at for link in known_links}), MAX_TIME]
    owners: list[tuple[int, int, str]] = []
    for start, end in pairwise(bounds):
        person = _owner(user_id, start, links_of)
        if owners and owners[-1][2] == person:
            owners[-1] = (owners[-1][0], end, person)
        else:
            owners.append((start, end, person))
    return owners


def _owner(user_id: str, event_time: int, links_of: Mapping[str, list[Link]]) -> str:
    while links := links_of.get(user_id):
        position = bisect_right(links, event_time, key=attrgetter("linked_at"))
        user_id = links[max(0, position - 1)].to_id
    return user_id


@dataclass
class _Group:
    """Ids that links connect; `plausible_ids` are those that are not known to be in an implausible group."""

    ids: list[str]
    plausible_ids: list[str]
    links_of: dict[str, list[str]] = field(default_factory=dict)
    links: int = 0
    since: int | None = None
    cycle: bool = False
    size: int = 1


def _implausible(links: Sequence[Link]) -> tuple[dict[str, int], list[ImplausibleLinks]]:
    """The instant from which on the links of an id are not applied, by id; and the groups of such ids.

    Groups only grow with time, so that an implausible one never becomes plausible, and what later links
    connect changes nothing at earlier cut-offs.
    """
    groups: dict[str, _Group] = {}
    since: dict[str, int] = {}
    for instant, simultaneous in groupby(links, attrgetter("linked_at")):
        changed: dict[int, _Group] = {}
        for link in simultaneous:
            group = _connect(groups, link)
            changed[id(group)] = group
        for group in {id(groups[g.ids[0]]): groups[g.ids[0]] for g in changed.values()}.values():
            if group.since is None and (group.cycle or group.size > MAX_LINKED_IDS + 1):
                group.since = instant
            if group.since is not None:
                since |= dict.fromkeys(group.plausible_ids, instant)
                group.plausible_ids = []
    implausible_groups = {id(group): group for group in groups.values() if group.since is not None}
    return since, [_report(group) for group in implausible_groups.values()]


def _connect(groups: dict[str, _Group], link: Link) -> _Group:
    first = groups.setdefault(link.from_id, _Group([link.from_id], [link.from_id]))
    second = groups.setdefault(link.to_id, _Group([link.to_id], [link.to_id]))
    if first is second:
        first.cycle = first.cycle or (first.since is None and _leads_to(first, link.to_id, link.from_id))
        larger = first
    else:
        larger, smaller = (first, second) if first.size >= second.size else (second, first)
        for user_id in smaller.ids:
            groups[user_id] = larger
        larger.ids += smaller.ids
        larger.plausible_ids += smaller.plausible_ids
        larger.links_of |= smaller.links_of
        larger.size += smaller.size
        larger.links += smaller.links
        larger.cycle = larger.cycle or smaller.cycle
        if larger.since is None or (smaller.since is not None and smaller.since < larger.since):
            larger.since = smaller.since
    larger.links_of.setdefault(link.from_id, []).append(link.to_id)
    larger.links += 1
    return larger


def _leads_to(group: _Group, start: str, target: str) -> bool:
    reached, waiting = {start}, [start]
    while waiting:
        user_id = waiting.pop()
        if user_id == target:
            return True
        following = [to_id for to_id in group.links_of.get(user_id, ()) if to_id not in reached]
        reached.update(following)
        waiting += following
    return False


def _report(group: _Group) -> ImplausibleLinks:
    counts: dict[str, int] = {}
    for from_id, to_ids in group.links_of.items():
        for user_id in (*to_ids, *[from_id] * len(to_ids)):
            counts[user_id] = counts.get(user_id, 0) + 1
    example = max(sorted(counts), key=counts.__getitem__)
    return ImplausibleLinks(example, group.size, group.links, group.cycle, group.since or 0, tuple(group.ids))
