"""Instants and local midnights. Instants are UTC with millisecond resolution, as MongoDB stores them.

Neither this module nor the packages below the command line read the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from retail_core.errors import InputError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

YEARS = range(1971, 2200)
"""Accepted years; look-backs, horizons and zones then stay within the calendars of Python and MongoDB."""


def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name.

    Raises:
        InputError: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputError(
            f"There is no time zone named {name!r}.", remedy="use an IANA name such as Europe/London."
        ) from error


def to_utc_ms(instant: datetime) -> datetime:
    """`instant` (aware) in UTC, rounded down to milliseconds."""
    utc = instant.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970 of an aware instant, exactly."""
    return (instant - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The UTC instant that many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=micros)


def parse_instant(text: str, default_zone: str = "UTC") -> datetime:
    """Parse an ISO 8601 time into UTC, rounded down to milliseconds.

    A time without an offset is in `default_zone`.


    >>> parse_instant("2017-12-03T00:00:00+08:00").isoformat()
    '2017-12-02T16:00:00+00:00'

    Raises:
        InputError: `text` is not ISO 8601 or its year is outside `YEARS`, or there is no such zone.
    """
    try:
        parsed = datetime.fromisoformat(text.strip())
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=zone(default_zone))
        instant = to_utc_ms(parsed)
    except (ValueError, OverflowError) as error:
        raise _invalid_time(text) from error
    if instant.year not in YEARS:
        raise _invalid_time(text)
    return instant


def _invalid_time(text: str) -> InputError:
    return InputError(
        f"{text!r} is not an ISO 8601 time between {YEARS[0]} and {YEARS[-1]}.",
        remedy="write it as 2025-01-31T00:00:00Z.",
    )


def iso(instant: datetime) -> str:
    """`instant` (aware) as ISO 8601 UTC with `Z`; milliseconds only if they are not zero."""
    utc = to_utc_ms(instant)
    spec = "milliseconds" if utc.microsecond else "seconds"
    return utc.isoformat(timespec=spec).replace("+00:00", "Z")


def last_midnight(instant: datetime, zone_name: str) -> datetime:
    """The last local midnight of the zone at or before `instant` (aware), in UTC."""
    local = instant.astimezone(zone(zone_name))
    return to_utc_ms(local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0))


def midnights(first: datetime, last: datetime, zone_name: str) -> Iterator[datetime]:
    """Local midnights of the zone in [first, last] (both aware), ascending, in UTC."""
    tz = zone(zone_name)
    day = first.astimezone(tz).date()
    while True:
        midnight = to_utc_ms(datetime(day.year, day.month, day.day, tzinfo=tz))
        if midnight > last:
            return
        if midnight >= first:
            yield midnight
        day += timedelta(days=1)
