"""Changes of the schema between the newest whole days and the days before: types, fields, platforms, values.

Shares are compared, of active users or of events, so that a quiet day, a bank holiday or a growing shop is
no change. The false-alarm probability of a year of daily checks is divided over the checks, the windows and
the shares that are compared (Bonferroni).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

import numpy as np

from retail_core.arrays import FloatArray
from retail_core.monitoring.profiles.day_profile import (
    VALUE_FIELDS,
    DayProfile,
    PlatformDay,
)
from retail_core.monitoring.schema_shares import ShareGroup, days_by_platform, share_groups
from retail_core.monitoring.share_changes import (
    MIN_REFERENCE_DAYS,
    REFERENCE_DAYS,
    WINDOWS,
    ShareSeries,
    WindowComparison,
    compare_window,
)

ALARMS_PER_YEAR = 0.01
"""Probability of a false alarm in a year of daily checks of a shop."""

CHECKS_PER_YEAR = 365
MIN_SILENT_DAYS = 3
"""Days on which a type is expected and does not come before it has vanished; bank holidays are shorter."""
UNKNOWN_VALUES = 0.5
"""Share of users with values never seen before from which a vocabulary has changed."""

_OPEN_FIELDS = tuple(name for name in VALUE_FIELDS if name != "currency")
"""Fields with many values, of which new ones are normal."""

_WARM_UP_DAYS = 7
"""First days of a log, in which every value is new."""

_LOG_RENAMED = math.log(1e-3)
"""Probability of a fall from which on it explains a rise at the same time."""

_SIMILAR_VOLUME = 2.0
_SIMILAR_NAME = 0.6


class ChangeKind(StrEnum):
    """What has changed."""

    NEW = "new"
    VANISHED = "vanished"
    RENAMED = "renamed"
    EMPTY = "empty"
    UNKNOWN = "unknown values"


@dataclass(frozen=True)
class SchemaChange:
    """One change.

    Attributes:
        kind: what has changed.
        subject: `event type`, `field`, `platform` or the name of a field whose values changed.
        name: of the type, the field, the platform or the value.
        platform: where; empty for the whole shop.
        days: length of the window of newest days that shows it.
        before: share in the past days.
        now: share in the window.
        probability: of a deviation as large by chance.
        successor: the new name of what was renamed.
    """

    kind: ChangeKind
    subject: str
    name: str
    platform: str
    days: int
    before: float
    now: float
    probability: float
    successor: str = ""

    def __str__(self) -> str:
        place = f" on {self.platform}" if self.platform else ""
        name = f"{self.name} -> {self.successor}" if self.successor else self.name
        return f"{self.subject} {name}{place}: {self.kind} ({self.before:.1%} -> {self.now:.1%})"


@dataclass(frozen=True)
class SchemaComparison:
    """Result of comparing the newest whole days with those before.

    Attributes:
        changes: one entry per type, field, platform or value that has changed.
        days: days that were compared, the newest last; announced days are not among them.
        shares: number of shares that were compared.
        unavailable: why nothing was compared; None where it was.
    """

    changes: list[SchemaChange]
    days: tuple[date, ...]
    shares: int = 0
    unavailable: str | None = None


def find_schema_changes(
    profiles: Sequence[DayProfile],
    announced: Collection[date] = (),
    alarms_per_year: float = ALARMS_PER_YEAR,
) -> SchemaComparison:
    """Compare the newest whole days with up to `REFERENCE_DAYS` days before them.

    Args:
        profiles: of whole days with events, ascending; the last one is the newest.
        announced: days that are left out (promotions, closed days).
        alarms_per_year: probability of a false alarm in a year of daily checks.
    """
    usable = [profile for profile in profiles if profile.events and profile.day not in announced]
    days = tuple(profile.day for profile in usable)
    if len(usable) < MIN_REFERENCE_DAYS + 1:
        missing = f"{len(usable)} whole days with events, {MIN_REFERENCE_DAYS + 1} needed"
        return SchemaComparison([], days, unavailable=missing)
    compared = usable[-(REFERENCE_DAYS + max(WINDOWS)) :]
    earlier = usable[: -(REFERENCE_DAYS + max(WINDOWS))]
    groups = list(share_groups(compared))
    shares = sum(len(group.series) for group in groups)
    log_limit = math.log(alarms_per_year / CHECKS_PER_YEAR / len(WINDOWS) / max(shares, 1))
    changes = [change for group in groups for change in _group_changes(group, log_limit)]
    for platform, platform_days in days_by_platform(usable):
        for name in _OPEN_FIELDS:
            changes += _unknown_values(platform_days, name, platform, log_limit)
    earlier_names = {name for profile in earlier for name in (*profile.types, *profile.platforms)}
    changes = _without_repetitions(changes, earlier_names)
    return SchemaComparison(changes, days, shares)


def _without_repetitions(
    changes: Sequence[SchemaChange], earlier_names: Collection[str]
) -> list[SchemaChange]:
    """Without what returned after a pause, is the new name of a renaming, or is true of the whole shop."""
    successors = {(change.subject, change.successor) for change in changes if change.successor}
    whole_shop = {(change.subject, change.name) for change in changes if not change.platform}
    return [
        change
        for change in changes
        if not (change.platform and (change.subject, change.name) in whole_shop)
        and not (
            change.kind is ChangeKind.NEW
            and (change.name in earlier_names or (change.subject, change.name) in successors)
        )
    ]


def _group_changes(group: ShareGroup, log_limit: float) -> list[SchemaChange]:
    """Changes of one group; a fall and a rise that belong together are one renaming."""
    if not len(group.series):
        return []
    changes: dict[str, SchemaChange] = {}
    for days in WINDOWS:
        if group.series.trials.shape[1] < days + MIN_REFERENCE_DAYS:
            continue
        window = compare_window(group.series, days, group.fall, group.rise)
        for change in _window_changes(group, window, log_limit):
            changes.setdefault(change.name, change)
    renamed = {change.successor for change in changes.values() if change.successor}
    return [change for change in changes.values() if change.name not in renamed]


def _window_changes(group: ShareGroup, window: WindowComparison, log_limit: float) -> list[SchemaChange]:
    """Renamed, vanished (or empty) and new shares of one window.

    A rise that is significant by itself is a renaming where something fell at the same time.
    """
    fallen = [int(row) for row in np.flatnonzero(window.log_fall <= _LOG_RENAMED)]
    risen = [int(row) for row in np.flatnonzero(window.log_rise <= log_limit)]
    kind = ChangeKind.EMPTY if group.rise is None else ChangeKind.VANISHED
    changes = []
    for row in fallen:
        fall = _change(group, window, row, kind, window.log_fall)
        successor = _successor(group, window, row, risen)
        if successor is not None:
            changes.append(replace(fall, kind=ChangeKind.RENAMED, successor=group.names[successor]))
            risen.remove(successor)
        elif window.log_fall[row] <= log_limit and (
            kind is ChangeKind.EMPTY or window.usual_days[row] >= MIN_SILENT_DAYS
        ):
            changes.append(fall)
    changes += [_change(group, window, row, ChangeKind.NEW, window.log_rise) for row in risen]
    return changes


def _change(
    group: ShareGroup, window: WindowComparison, row: int, kind: ChangeKind, log_probability: FloatArray
) -> SchemaChange:
    return SchemaChange(
        kind,
        group.subject,
        group.names[row],
        group.platform,
        window.days,
        float(window.past[row]),
        float(window.now[row]),
        math.exp(log_probability[row]),
    )


def _successor(group: ShareGroup, window: WindowComparison, row: int, risen: Sequence[int]) -> int | None:
    """The new share that replaces a vanished one: of similar volume, or else of similar name."""
    name, volume = group.names[row], window.expected[row]

    def similarity(other: int) -> float:
        return difflib.SequenceMatcher(None, name.lower(), group.names[other].lower()).ratio()

    def is_similar(other: int) -> bool:
        ratio = window.observed[other] / volume
        return 1 / _SIMILAR_VOLUME <= ratio <= _SIMILAR_VOLUME or similarity(other) >= _SIMILAR_NAME

    return max(filter(is_similar, risen), key=similarity, default=None)


def _unknown_values(
    platform_days: Sequence[PlatformDay], name: str, platform: str, log_limit: float
) -> list[SchemaChange]:
    """Whether most users of the newest days have values of a field that were never seen before."""
    counts = [day.values[name].users if name in day.values else {} for day in platform_days]
    longest = max(WINDOWS)
    earlier = {value for day in counts[:-longest] for value in day}
    if all(day.keys() <= earlier for day in counts[-longest:]):
        return []
    vocabulary: set[str] = set()
    past: list[tuple[int, int]] = []
    for day in counts:
        past.append(_unknown_count(day, vocabulary))
        vocabulary |= day.keys()
    for days in WINDOWS:
        if len(counts) < _WARM_UP_DAYS + MIN_REFERENCE_DAYS + days:
            break
        earlier_values = {value for day in counts[:-days] for value in day}
        now = [_unknown_count(day, earlier_values) for day in counts[-days:]]
        table = np.array([*past[_WARM_UP_DAYS:-days], *now], dtype=np.float64).T
        series = ShareSeries(table[None, 0], table[None, 1], np.zeros(table.shape[1], dtype=np.int64))
        window = compare_window(series, days, 0.0, UNKNOWN_VALUES)
        if window.now[0] >= UNKNOWN_VALUES and window.log_rise[0] <= log_limit:
            group = ShareGroup(name, platform, ("values",), series, 0.0, UNKNOWN_VALUES)
            return [_change(group, window, 0, ChangeKind.UNKNOWN, window.log_rise)]
    return []


def _unknown_count(users: Mapping[str, int], vocabulary: Collection[str]) -> tuple[int, int]:
    """Users with a value, and those of them whose value is not in the vocabulary."""
    return sum(users.values()), sum(count for value, count in users.items() if value not in vocabulary)
