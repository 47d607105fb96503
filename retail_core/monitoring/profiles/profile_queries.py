"""Compute profiles of local days from the lake."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any

import ibis
from ibis.expr.types import Table

from retail_core.features.engine import LakeReader, QueryEngine
from retail_core.features.local_days import EPOCH_DAY, events_by_local_day
from retail_core.monitoring.profiles.day_profile import (
    FIELDS,
    MAX_VALUES,
    NO_PLATFORM,
    VALUE_FIELDS,
    DayProfile,
    FieldValues,
    PlatformDay,
    TypeCounts,
)

_Key = tuple[int, str]
_Rows = Iterator[dict[str, Any]]


def compute_profiles(
    engine: QueryEngine, lake: LakeReader, span: tuple[date, date], zone_name: str
) -> list[DayProfile]:
    """Profiles of the local days [first, end) that have events, ascending.

    Args:
        engine: runs the queries.
        lake: where the events are.
        span: first day, and the day after the last one.
        zone_name: IANA zone of the shop.
    """
    events = events_by_local_day(engine, lake, span, zone_name, columns=("platform", *FIELDS))
    events = events.mutate(platform=events.platform.fill_null(NO_PLATFORM))
    keys = ["day", "platform", "event_type"]
    filled = {name: events[name].count() for name in FIELDS}
    by_user = engine.materialize(events.group_by([*keys, "user_id"]).agg(events=events.count(), **filled))
    sums = {name: by_user[name].sum().cast("int64") for name in ("events", *FIELDS)}
    types = by_user.group_by(keys).agg(users=by_user.count(), **sums)
    users = by_user.group_by(["day", "platform"]).agg(users=by_user.user_id.nunique())
    of_day = by_user.group_by("day").agg(users=by_user.user_id.nunique())
    values = {name: list(_rows(engine, _frequent_values(events, name))) for name in VALUE_FIELDS}
    platforms = _platforms(_rows(engine, types), _rows(engine, users), values)
    return sorted(
        (
            DayProfile(
                EPOCH_DAY + timedelta(days=row["day"]),
                sum(platform.events for platform in platforms[row["day"]].values()),
                row["users"],
                platforms[row["day"]],
            )
            for row in _rows(engine, of_day)
        ),
        key=lambda profile: profile.day,
    )


def _frequent_values(events: Table, name: str) -> Table:
    """`day`, `platform`, `value`, `users` of the `MAX_VALUES` values with most users."""
    present = events.filter(events[name].notnull()).mutate(value=events[name])
    counts = present.group_by(["day", "platform", "value"]).agg(users=present.user_id.nunique())
    order = [ibis.desc("users"), ibis.asc("value")]
    ranked = counts.mutate(
        position=ibis.row_number().over(group_by=["day", "platform"], order_by=order).cast("int64")
    )
    return ranked.filter(ranked.position <= MAX_VALUES).order_by("position")


def _rows(engine: QueryEngine, table: Table) -> _Rows:
    yield from engine.to_arrow(table).to_pylist()


def _platforms(
    types: _Rows, users: _Rows, values: Mapping[str, list[dict[str, Any]]]
) -> dict[int, dict[str, PlatformDay]]:
    """Platforms by day (days since 1970)."""
    by_type: defaultdict[_Key, dict[str, TypeCounts]] = defaultdict(dict)
    for row in types:
        filled = {name: int(row[name]) for name in FIELDS if row[name]}
        counts = TypeCounts(int(row["events"]), int(row["users"]), filled)
        by_type[row["day"], row["platform"]][row["event_type"]] = counts
    by_field: defaultdict[_Key, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for name, rows in values.items():
        for row in rows:
            by_field[row["day"], row["platform"]][name][row["value"]] = int(row["users"])
    platforms: defaultdict[int, dict[str, PlatformDay]] = defaultdict(dict)
    for row in users:
        key = row["day"], row["platform"]
        events = sum(counts.events for counts in by_type[key].values())
        entries = {
            name: FieldValues(counts, truncated=len(counts) >= MAX_VALUES)
            for name, counts in by_field[key].items()
        }
        platforms[row["day"]][row["platform"]] = PlatformDay(events, int(row["users"]), by_type[key], entries)
    return platforms
