"""Check of the newest days of the data against the days before: volume, schema and freshness."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from retail_core.features.local_days import local_midnight
from retail_core.monitoring.freshness_check import (
    VOLUME_DAYS,
    DayVolume,
    check_freshness,
    day_volume,
    thin_days,
)
from retail_core.monitoring.profiles.day_profile import DayProfile, PlatformDay
from retail_core.monitoring.profiles.profile_storage import current_profiles
from retail_core.monitoring.schema_changes import find_schema_changes
from retail_core.monitoring.schema_check import check_schema
from retail_core.monitoring.trigger_check import TriggerCheck
from retail_core.scoring.list_checks import log_lateness
from retail_core.store.mongo.shop_calendar import announced_days
from retail_core.workspace import Workspace

SHOWN_DAYS = 7
_FEW, _MANY = 0.5, 2.0
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class PlatformReport:
    """One platform on one day; `null_shares` has the share of events without a value by type and field."""

    day: date
    platform: str
    events: int
    users: int
    event_types: dict[str, int]
    null_shares: dict[str, dict[str, float]]


@dataclass(frozen=True)
class DataCheck:
    """Newest whole days against the days before.

    Attributes:
        as_of: instant of the check.
        newest_day: the newest whole day; None without one.
        volumes: active users of the newest days and the usual number.
        platforms: what each platform recorded on the newest days.
        findings: what differs from the past, in one sentence each; empty where nothing does.
        checks: the triggers `schema` and `freshness`.
    """

    as_of: datetime
    newest_day: date | None
    volumes: list[DayVolume]
    platforms: list[PlatformReport]
    findings: list[str]
    checks: list[TriggerCheck]


def check_data(workspace: Workspace, as_of: datetime) -> DataCheck:
    """Update the profiles of the whole days at `as_of` (aware) and compare the newest with those before."""
    profiles, announced = current_profiles(workspace, as_of), announced_days(workspace.store)
    checks = _checks(workspace, profiles, announced, as_of)
    newest = range(max(0, len(profiles) - SHOWN_DAYS), len(profiles))
    volumes = [day_volume(profiles, index, announced) for index in newest]
    findings = [
        sentence
        for index, volume in zip(newest, volumes, strict=True)
        for sentence in volume_findings(volume, profiles[:index], announced)
    ]
    findings += [f"{check.name}: {check.evidence}" for check in checks if check.fired]
    return DataCheck(
        as_of,
        profiles[-1].day if profiles else None,
        volumes,
        [
            _platform_report(profiles[index].day, name, platform)
            for index in newest
            for name, platform in profiles[index].platforms.items()
        ],
        findings,
        checks,
    )


def data_triggers(workspace: Workspace, as_of: datetime) -> list[TriggerCheck]:
    """The triggers `schema` and `freshness` at `as_of` (aware); updates the profiles."""
    profiles = current_profiles(workspace, as_of)
    return _checks(workspace, profiles, announced_days(workspace.store), as_of)


def _checks(
    workspace: Workspace, profiles: Sequence[DayProfile], announced: Collection[date], as_of: datetime
) -> list[TriggerCheck]:
    thin = thin_days(profiles, announced)
    since = local_midnight(thin[0].day, workspace.zone) if thin else None
    return [
        check_schema(find_schema_changes(profiles, announced)),
        check_freshness(log_lateness(workspace, as_of, since), as_of, thin),
    ]


def volume_findings(volume: DayVolume, past: Sequence[DayProfile], announced: Collection[date]) -> list[str]:
    """A sentence if a day has less than half or more than twice its usual users, and no past day had that."""
    recent = [
        profile.users
        for profile in past
        if profile.day >= volume.day - _ONE_DAY * VOLUME_DAYS and profile.day not in announced
    ]
    if volume.usual is None or volume.day in announced:
        return []
    comparison = f"{volume.day}: {volume.users:,} active users where {volume.usual:,.0f} are usual"
    if volume.users < _FEW * volume.usual and volume.users < min(recent):
        return [f"{comparison}, fewer than on any day of the 8 weeks before"]
    if volume.users > _MANY * volume.usual and volume.users > max(recent):
        return [f"{comparison}, more than on any day of the 8 weeks before"]
    return []


def _platform_report(day: date, name: str, platform: PlatformDay) -> PlatformReport:
    fields = sorted({field for counts in platform.types.values() for field in counts.filled})
    return PlatformReport(
        day,
        name,
        platform.events,
        platform.users,
        {kind: counts.events for kind, counts in sorted(platform.types.items())},
        {
            kind: {field: round(counts.null_share(field), 4) for field in fields}
            for kind, counts in sorted(platform.types.items())
        },
    )
