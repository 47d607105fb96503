"""Keep the profiles of whole local days in MongoDB equal to the events in the lake.

Each document has a fingerprint of the lake's files that its day was computed from. Late events, undone files
and erased users change these files, and the day is computed again. Days are written one by one, so that a
killed update is continued by the next one.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from pymongo import ReplaceOne

from retail_core.features.engine import open_engine
from retail_core.features.local_days import local_midnight
from retail_core.monitoring.profiles.day_profile import DayProfile, from_document, to_document
from retail_core.monitoring.profiles.profile_queries import compute_profiles
from retail_core.store.lake.reader import Lake
from retail_core.store.mongo.connection import Store
from retail_core.times import last_midnight, zone
from retail_core.workspace import Workspace

HISTORY_DAYS = 120
"""Days before the newest whole one that are kept current."""

_FORMAT = 1
"""Changes with the queries: documents of another format are computed again."""

_CHUNK_DAYS = 31
_ONE_DAY = timedelta(days=1)
_FILE_DAY = re.compile(r"day=(\d{4}-\d{2}-\d{2})/")


def whole_days_until(workspace: Workspace, as_of: datetime) -> datetime:
    """The local midnight that ends the newest whole day at `as_of` (aware), UTC.

    A day is whole if it ends at or before `as_of`, and later events follow or its silence up to midnight is
    usual for the shop (`list_cutoff`).

    Raises:
        DataError: there are no events.
    """
    return last_midnight(min(as_of, workspace.list_cutoff(None)), workspace.zone)


def update_profiles(workspace: Workspace, until: datetime, days: int = HISTORY_DAYS) -> int:
    """Compute the profiles that are missing or outdated; returns their number.

    Args:
        workspace: a synchronized one; its lake is read in its present state.
        until: local midnight that ends the newest whole day, aware.
        days: how many local days before `until` are compared with the lake.
    """
    lake, zone_name, store = workspace.lake.snapshot(), workspace.zone, workspace.store
    end = until.astimezone(zone(zone_name)).date()
    fingerprints = _fingerprints(lake, (end - _ONE_DAY * days, end), zone_name)
    first, last = (end - _ONE_DAY * days).isoformat(), end.isoformat()
    stored = {
        date.fromisoformat(document["_id"]): document["fingerprint"]
        for document in store.data_profiles.find({"_id": {"$gte": first, "$lt": last}}, {"fingerprint": 1})
    }
    gone = [day.isoformat() for day in stored.keys() - fingerprints.keys()]
    if gone:
        store.data_profiles.delete_many({"_id": {"$in": gone}})
    outdated = sorted(day for day, digest in fingerprints.items() if stored.get(day) != digest)
    for chunk in _chunks(outdated):
        with open_engine(workspace.engine) as engine:
            profiles = compute_profiles(engine, lake, (chunk[0], chunk[-1] + _ONE_DAY), zone_name)
        _store(store, profiles, {day: fingerprints[day] for day in chunk})
    return len(outdated)


def read_profiles(
    store: Store, until: datetime, zone_name: str, days: int = HISTORY_DAYS
) -> list[DayProfile]:
    """Stored profiles of the days with events among the `days` local days before `until`, ascending."""
    end = until.astimezone(zone(zone_name)).date()
    query = {"_id": {"$gte": (end - _ONE_DAY * days).isoformat(), "$lt": end.isoformat()}}
    profiles = map(from_document, store.data_profiles.find(query).sort("_id"))
    return [profile for profile in profiles if profile.events]


def current_profiles(workspace: Workspace, as_of: datetime) -> list[DayProfile]:
    """Update and read the profiles of the whole days at `as_of` (aware), ascending; none without events."""
    if not workspace.lake.rows_by_day():
        return []
    until = whole_days_until(workspace, as_of)
    update_profiles(workspace, until)
    return read_profiles(workspace.store, until, workspace.zone)


def _fingerprints(lake: Lake, span: tuple[date, date], zone_name: str) -> dict[date, str]:
    """Digest of the names of the files that a local day's events are in, by day, where there are any."""
    first, end = span
    start, stop = local_midnight(first, zone_name), local_midnight(end, zone_name)
    files: defaultdict[str, list[str]] = defaultdict(list)
    for url in lake.files(start, stop):
        match = _FILE_DAY.search(url)
        if match is not None:
            files[match[1]].append(url[match.start() :])
    fingerprints = {}
    for day in (first + _ONE_DAY * n for n in range((end - first).days)):
        begin, midnight = local_midnight(day, zone_name), local_midnight(day + _ONE_DAY, zone_name)
        utc_days = {
            begin.date().isoformat(),
            (midnight - timedelta(microseconds=1)).astimezone(UTC).date().isoformat(),
        }
        names = sorted(name for utc_day in utc_days for name in files.get(utc_day, ()))
        if names:
            content = "\n".join([str(_FORMAT), zone_name, *names])
            fingerprints[day] = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    return fingerprints


def _chunks(days: Sequence[date]) -> list[list[date]]:
    """Days in runs that span at most `_CHUNK_DAYS`."""
    chunks: list[list[date]] = []
    for day in days:
        if not chunks or (day - chunks[-1][0]).days >= _CHUNK_DAYS:
            chunks.append([])
        chunks[-1].append(day)
    return chunks


def _store(store: Store, computed: Sequence[DayProfile], fingerprints: Mapping[date, str]) -> None:
    """Replace the documents of the days that have a fingerprint; one without events is an empty profile."""
    profiles = {profile.day: profile for profile in computed}
    store.data_profiles.bulk_write(
        [
            ReplaceOne(
                {"_id": day.isoformat()},
                to_document(profiles.get(day, DayProfile(day, 0, 0))) | {"fingerprint": fingerprint},
                upsert=True,
            )
            for day, fingerprint in fingerprints.items()
        ]
    )
