"""Shares that a change of the schema would move: of platforms, event types, fields and currencies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from retail_core.arrays import FloatArray, IntArray
from retail_core.monitoring.profiles.day_profile import FIELDS, DayProfile, PlatformDay
from retail_core.monitoring.share_changes import ShareSeries

VANISHED = 0.05
"""What is left of a type, a platform or a value that has vanished, at most."""
EMPTIED = 0.5
"""What is left of a field that has become empty, at most."""
NEW = 0.05
"""What a new type, platform or value had before, at most, relative to now."""


@dataclass(frozen=True)
class ShareGroup:
    """Shares of one kind that are compared in the same way.

    Attributes:
        subject: what the names are: `platform`, `event type`, `field` or `currency`.
        platform: where; empty for the whole shop.
        names: of the shares.
        series: their counts by day.
        fall: largest part of the expected count that is a change.
        rise: largest past share, relative to the present one, that is a change; None: a rise is none.
    """

    subject: str
    platform: str
    names: tuple[str, ...]
    series: ShareSeries
    fall: float
    rise: float | None


def share_groups(profiles: Sequence[DayProfile]) -> Iterable[ShareGroup]:
    """Shares by day of the whole shop and of each platform."""
    weekdays = np.array([profile.day.weekday() for profile in profiles], dtype=np.int64)
    shop = np.array([float(profile.users) for profile in profiles])
    platforms = sorted({name for profile in profiles for name in profile.platforms})
    if len(platforms) > 1:
        users = {p: np.array([float(_of(d, p).users) for d in profiles]) for p in platforms}
        yield _group("platform", "", users, shop, weekdays)
    for platform, days in days_by_platform(profiles):
        yield from _platform_groups(days, platform, weekdays)


def days_by_platform(profiles: Sequence[DayProfile]) -> Iterable[tuple[str, list[PlatformDay]]]:
    """Counts by day of the whole shop, under the name "", and of each platform where there are several."""
    yield "", [profile.whole_shop for profile in profiles]
    platforms = sorted({name for profile in profiles for name in profile.platforms})
    for platform in platforms if len(platforms) > 1 else ():
        yield platform, [_of(profile, platform) for profile in profiles]


def _platform_groups(days: Sequence[PlatformDay], platform: str, weekdays: IntArray) -> Iterable[ShareGroup]:
    active = np.array([float(day.users) for day in days])
    types = sorted({name for day in days for name in day.types})
    yield _group("event type", platform, {t: _users(days, t) for t in types}, active, weekdays)
    yield from _field_groups(days, types, platform, weekdays)
    yield _group("currency", platform, *_values(days, "currency"), weekdays)


def _of(profile: DayProfile, platform: str) -> PlatformDay:
    return profile.platforms.get(platform, PlatformDay(0, 0))


def _users(days: Sequence[PlatformDay], kind: str) -> FloatArray:
    return np.array([float(day.types[kind].users) if kind in day.types else 0.0 for day in days])


def _group(
    subject: str, platform: str, hits: dict[str, FloatArray], trials: FloatArray, weekdays: IntArray
) -> ShareGroup:
    shape = (len(hits), len(weekdays))
    matrix = np.array(list(hits.values())).reshape(shape)
    series = ShareSeries(np.broadcast_to(trials, shape), np.minimum(matrix, trials), weekdays)
    return ShareGroup(subject, platform, tuple(hits), series, VANISHED, NEW)


def _field_groups(
    days: Sequence[PlatformDay], types: Sequence[str], platform: str, weekdays: IntArray
) -> Iterable[ShareGroup]:
    """Filled shares of each field by event type; an event counts as a part of its user, who is one trial."""
    names, trials, hits = [], [], []
    for kind in types:
        users = _users(days, kind)
        for name in FIELDS:
            share = np.array(
                [1 - day.types[kind].null_share(name) if kind in day.types else 0.0 for day in days]
            )
            if share.any():
                names.append(f"{name} of {kind}")
                trials.append(users)
                hits.append(share * users)
    shape = (len(names), len(weekdays))
    series = ShareSeries(np.array(trials).reshape(shape), np.array(hits).reshape(shape), weekdays)
    yield ShareGroup("field", platform, tuple(names), series, EMPTIED, None)


def _values(days: Sequence[PlatformDay], name: str) -> tuple[dict[str, FloatArray], FloatArray]:
    """Users by value of a field with few values, and users with any value."""
    entries = [day.values.get(name) for day in days]
    values = sorted({value for entry in entries if entry for value in entry.users})
    users = {
        v: np.array([float(entry.most_users_of(v)) if entry else 0.0 for entry in entries]) for v in values
    }
    total = np.array([float(sum(entry.users.values())) if entry else 0.0 for entry in entries])
    return users, total
