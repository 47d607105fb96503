"""Profile of one local day of the log, and its document in MongoDB. No user is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

NO_PLATFORM = "(none)"
"""Platform of the events that name none."""

FIELDS: tuple[str, ...] = (
    *("item_id", "category", "brand", "price_minor", "quantity", "currency", "session_id", "order_id"),
    "properties",
)
"""Fields of events whose null shares are profiled."""

VALUE_FIELDS: tuple[str, ...] = ("currency", "category", "brand")
"""Fields whose most frequent values are profiled; platforms and event types are profiled in full."""

MAX_VALUES = 100
"""Number of values of a field that a profile keeps for each platform."""


@dataclass(frozen=True)
class TypeCounts:
    """Events of one type on one platform.

    Attributes:
        events: number of events.
        users: distinct users with such an event.
        filled: events with a value, by field of `FIELDS`.
    """

    events: int
    users: int
    filled: Mapping[str, int] = field(default_factory=dict)

    def null_share(self, name: str) -> float:
        """Share of the events without a value in that field."""
        return 1 - self.filled.get(name, 0) / self.events


@dataclass(frozen=True)
class FieldValues:
    """Distinct users by value of one field; the `MAX_VALUES` values with most users if `truncated`."""

    users: Mapping[str, int]
    truncated: bool = False

    def most_users_of(self, value: str) -> int:
        """Users of a value; the largest possible number where it may have been left out."""
        if value in self.users or not self.truncated:
            return self.users.get(value, 0)
        return min(self.users.values(), default=0)


@dataclass(frozen=True)
class PlatformDay:
    """What one platform recorded on one day.

    Attributes:
        events: number of events.
        users: distinct users.
        types: counts by event type.
        values: most frequent values by field of `VALUE_FIELDS`.
    """

    events: int
    users: int
    types: Mapping[str, TypeCounts] = field(default_factory=dict)
    values: Mapping[str, FieldValues] = field(default_factory=dict)


@dataclass(frozen=True)
class DayProfile:
    """One whole local day.

    Attributes:
        day: in the shop's time zone.
        events: number of events.
        users: distinct users on any platform.
        platforms: what each platform recorded; events without one are under `NO_PLATFORM`.
    """

    day: date
    events: int
    users: int
    platforms: Mapping[str, PlatformDay] = field(default_factory=dict)

    @cached_property
    def whole_shop(self) -> PlatformDay:
        """Sums over platforms; a user of two platforms counts twice."""
        if len(self.platforms) == 1:
            return next(iter(self.platforms.values()))
        return _sum(self.platforms.values())

    @property
    def types(self) -> frozenset[str]:
        """Event types on any platform."""
        return frozenset(self.whole_shop.types)


def _sum(platforms: Iterable[PlatformDay]) -> PlatformDay:
    events = users = 0
    types: dict[str, TypeCounts] = {}
    values: dict[str, FieldValues] = {}
    for platform in platforms:
        events, users = events + platform.events, users + platform.users
        for kind, counts in platform.types.items():
            before = types.get(kind, TypeCounts(0, 0))
            filled = _add(before.filled, counts.filled)
            types[kind] = TypeCounts(before.events + counts.events, before.users + counts.users, filled)
        for name, entry in platform.values.items():
            other = values.get(name, FieldValues({}))
            truncated = other.truncated or entry.truncated
            values[name] = FieldValues(_add(other.users, entry.users), truncated)
    return PlatformDay(events, users, types, values)


def _add(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    total = dict(first)
    for name, count in second.items():
        total[name] = total.get(name, 0) + count
    return total


def to_document(profile: DayProfile) -> dict[str, Any]:
    """Plain values for MongoDB; names are values rather than keys, since they may contain dots."""
    return {
        "_id": profile.day.isoformat(),
        "events": profile.events,
        "users": profile.users,
        "platforms": [
            {
                "platform": name,
                "events": platform.events,
                "users": platform.users,
                "types": [
                    {"type": kind, "events": counts.events, "users": counts.users, "filled": counts.filled}
                    for kind, counts in sorted(platform.types.items())
                ],
                "values": [
                    {
                        "field": kind,
                        "users": list(map(list, entry.users.items())),
                        "truncated": entry.truncated,
                    }
                    for kind, entry in sorted(platform.values.items())
                ],
            }
            for name, platform in sorted(profile.platforms.items())
        ],
    }


def from_document(document: Mapping[str, Any]) -> DayProfile:
    """Inverse of `to_document`."""
    return DayProfile(
        date.fromisoformat(document["_id"]),
        document["events"],
        document["users"],
        {entry["platform"]: _platform_day(entry) for entry in document["platforms"]},
    )


def _platform_day(entry: Mapping[str, Any]) -> PlatformDay:
    return PlatformDay(
        entry["events"],
        entry["users"],
        {row["type"]: TypeCounts(row["events"], row["users"], row["filled"]) for row in entry["types"]},
        {row["field"]: FieldValues(dict(row["users"]), row["truncated"]) for row in entry["values"]},
    )
