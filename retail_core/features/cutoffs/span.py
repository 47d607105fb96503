"""Which time a log covers: events per local day, and up to where nothing more is to come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pandas as pd

from retail_core.features.batch.engine import DUCKDB, EngineOptions, open_engine
from retail_core.features.kinds import HOUR_US
from retail_core.features.reader import LakeReader, from_micros, to_micros
from retail_core.log_coverage import last_covered_day
from retail_core.times import last_midnight

DAY_IS_OVER = timedelta(minutes=1)
"""A day whose last event lies within so much of its end is complete: nobody happened to act after it."""

GOES_ON = timedelta(days=7)
"""An event so long after `as_of` still shows that the log goes on; a later one may be a wrong clock's."""

_CELL_US = HOUR_US // 4
"""Quarters of an hour: since 1990 the midnights of every zone keep to them."""


@dataclass(frozen=True)
class LogSpan:
    """What a log covers at `as_of`.

    Attributes:
        as_of: up to here events count, UTC.
        known_until: what happened before this instant is in the log, as far as it can tell; at most `as_of`.
        counts: events before `as_of` by local day.
    """

    as_of: datetime
    known_until: datetime
    counts: dict[date, int]


def known_until(newest: datetime, as_of: datetime, zone_name: str) -> datetime:
    """Up to where a log is known at `as_of`: its newest event, and never later than `as_of`.

    What comes after the newest event has not been seen, which is not the same as quiet. Only the rest of
    a day that is over but for less than `DAY_IS_OVER` counts as seen.

    >>> from datetime import UTC
    >>> day = lambda hour, minute: datetime(2025, 2, 8, hour, minute, tzinfo=UTC)
    >>> known_until(day(7, 57), day(9, 0), "UTC").isoformat()
    '2025-02-08T07:57:00+00:00'
    """
    seen = max(newest, last_midnight(newest + DAY_IS_OVER, zone_name))
    return min(as_of, seen)


def log_span(lake: LakeReader, as_of: datetime, zone_name: str, engine: EngineOptions = DUCKDB) -> LogSpan:
    """The span of a log at `as_of` (aware).

    Events at or after `as_of`, up to `GOES_ON` later, only show that the log goes on; strays show nothing.
    Without events everything up to `as_of` counts as known, of which there is nothing to say.
    """
    cut = to_micros(as_of)
    with open_engine(engine) as running:
        events = running.events(lake, None, as_of + GOES_ON)
        cells = events.group_by(cell=(events.ts // _CELL_US).cast("int64")).agg(
            n=events.count(), early=(events.ts < cut).sum().cast("int64"), last=events.ts.max()
        )
        frame = running.fetch(cells).to_pandas()
    starts = pd.to_datetime(frame["cell"] * _CELL_US, unit="us", utc=True)
    days = frame.groupby(starts.dt.tz_convert(zone_name).dt.date).agg(
        {"n": "sum", "early": "sum", "last": "max"}
    )
    newest = last_covered_day({day: int(n) for day, n in days["n"].items()})
    early = days["early"][days["early"] > 0]
    counts = {day: int(n) for day, n in early.items()}
    if newest is None:
        return LogSpan(as_of, as_of, counts)
    return LogSpan(as_of, known_until(from_micros(int(days["last"][newest])), as_of, zone_name), counts)
