"""The shop's calendar in MongoDB: which days are announced, and since when each was known.

One document holds the whole calendar, so that an import replaces it in one step. Withdrawn days stay in it:
what was known at an instant of the past can be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from retail_core.errors import InputError
from retail_core.sources.calendar_file import AnnouncedDay, DayKind
from retail_core.store.mongo.connection import Store
from retail_core.times import EPOCH, to_utc_ms

_ID = "shop"
_MAX_ATTEMPTS = 20


@dataclass(frozen=True)
class CalendarReport:
    """Result of replacing the calendar.

    Attributes:
        days: announced days now.
        promotion: those of them with a promotion.
        closed: those of them on which the shop is closed.
        added: days that were not announced before, or with another kind.
        withdrawn: days that are no longer announced, or with another kind.
        first: first announced day.
        last: last announced day.
    """

    days: int
    promotion: int
    closed: int
    added: int
    withdrawn: int
    first: date | None
    last: date | None


def announced_days(store: Store, known_at: datetime | None = None) -> dict[date, DayKind]:
    """The announced local days of the shop, with what is announced.

    Args:
        store: the database.
        known_at: aware; only what was known at this instant. None: the calendar as it is now, which is right
            where days are left out of a test, but not for a feature.
    """
    return kinds_by_day(read_days(store), known_at)


def kinds_by_day(days: Sequence[AnnouncedDay], known_at: datetime | None = None) -> dict[date, DayKind]:
    """As `announced_days`, of these entries, withdrawn ones included; the newest entry of a day counts.

    >>> from datetime import timedelta
    >>> at = datetime(2025, 11, 1, tzinfo=UTC)
    >>> entry = AnnouncedDay(date(2025, 11, 28), DayKind.PROMOTION, announced_at=at)
    >>> kinds_by_day([entry], at)
    {datetime.date(2025, 11, 28): <DayKind.PROMOTION: 'promotion'>}
    >>> kinds_by_day([entry], at - timedelta(hours=1))
    {}
    """
    return {entry.day: entry.kind for entry in known_days(days, known_at)}


def known_days(days: Sequence[AnnouncedDay], known_at: datetime | None = None) -> list[AnnouncedDay]:
    """The entry of each day that was announced at `known_at` (None: now), by day; the newest of a day."""
    announced = [entry for entry in days if _is_known(entry, known_at)]
    announced.sort(key=lambda entry: (entry.day, entry.announced_at or EPOCH))
    return list({entry.day: entry for entry in announced}.values())


def _is_known(entry: AnnouncedDay, known_at: datetime | None) -> bool:
    if known_at is None:
        return entry.withdrawn_at is None
    announced = entry.announced_at is None or entry.announced_at <= known_at
    return announced and (entry.withdrawn_at is None or entry.withdrawn_at > known_at)


def read_days(store: Store) -> list[AnnouncedDay]:
    """Every entry of the calendar, withdrawn ones included, by day."""
    return _days(store.calendar.find_one({"_id": _ID}))


def replace_calendar(store: Store, days: Sequence[AnnouncedDay], at: datetime) -> CalendarReport:
    """Make `days` the announced ones; repeating it changes nothing.

    Args:
        store: the database.
        days: each day once; without days the calendar is cleared.
        at: present time, aware: since when new days are known that do not say it, and old ones withdrawn.

    Raises:
        InputError: other processes kept replacing the calendar.
    """
    for _ in range(_MAX_ATTEMPTS):
        document = store.calendar.find_one({"_id": _ID})
        stored = _days(document)
        entries = replaced_days(stored, days, to_utc_ms(at))
        if entries == stored or _replace(store, document, entries):
            return _report(stored, entries)
    raise InputError(
        "The calendar is being replaced by other processes.", remedy="run the command again when they end."
    )


def replaced_days(
    stored: Sequence[AnnouncedDay], days: Sequence[AnnouncedDay], at: datetime
) -> list[AnnouncedDay]:
    """The entries of a calendar of which `days` replace the announced ones, by day and announcement.

    A day that was announced before with the same kind keeps the time of its announcement, unless `days` state
    another one. A day that is not among them any more is withdrawn at `at`.
    """
    announced = {(entry.day, entry.kind): entry for entry in stored if entry.withdrawn_at is None}
    entries = [entry for entry in stored if entry.withdrawn_at is not None]
    for day in days:
        before = announced.pop((day.day, day.kind), None)
        known_since = before.announced_at if before else at
        entries.append(replace(day, announced_at=day.announced_at or known_since, withdrawn_at=None))
    entries += [replace(entry, withdrawn_at=at) for entry in announced.values()]
    return sorted(entries, key=lambda entry: (entry.day, entry.announced_at or at, entry.withdrawn_at or at))


def _replace(store: Store, document: Mapping[str, Any] | None, entries: Sequence[AnnouncedDay]) -> bool:
    """Store `entries` unless another process has replaced `document`; whether it was done."""
    revision = document["revision"] if document else 0
    days = [asdict(entry) | {"day": entry.day.isoformat(), "kind": entry.kind.value} for entry in entries]
    content = {"revision": revision + 1, "days": days}
    try:
        result = store.calendar.replace_one({"_id": _ID, "revision": revision}, content, upsert=not document)
    except DuplicateKeyError:
        return False
    return bool(result.matched_count or result.upserted_id)


def _days(document: Mapping[str, Any] | None) -> list[AnnouncedDay]:
    return [
        AnnouncedDay(
            date.fromisoformat(entry["day"]),
            DayKind(entry["kind"]),
            entry["note"],
            _utc(entry["announced_at"]),
            _utc(entry["withdrawn_at"]),
        )
        for entry in (document["days"] if document else ())
    ]


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)


def _report(stored: Sequence[AnnouncedDay], entries: Sequence[AnnouncedDay]) -> CalendarReport:
    before, after = kinds_by_day(stored), kinds_by_day(entries)
    kinds = list(after.values())
    return CalendarReport(
        days=len(after),
        promotion=kinds.count(DayKind.PROMOTION),
        closed=kinds.count(DayKind.CLOSED),
        added=len(after.items() - before.items()),
        withdrawn=len(before.items() - after.items()),
        first=min(after, default=None),
        last=max(after, default=None),
    )
