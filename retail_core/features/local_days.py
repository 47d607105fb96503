"""Local days of the shop as tables that engines can join with events.

Separate from the queries that count by day, which share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow
from ibis.expr.types import Table

from retail_core.features.engine.query_engine import LakeReader, QueryEngine
from retail_core.features.time_windows import MINUTE_US
from retail_core.times import to_micros, zone

EPOCH_DAY = date(1970, 1, 1)

_QUARTER_US = 15 * MINUTE_US
"""Since 1990 the midnights of every zone lie on quarters of an hour."""

_ONE_DAY = timedelta(days=1)


def local_midnight(day: date, zone_name: str) -> datetime:
    """Begin of a local day, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone(zone_name)).astimezone(UTC)


def events_by_local_day(
    engine: QueryEngine,
    lake: LakeReader,
    span: tuple[date, date],
    zone_name: str,
    columns: Sequence[str] = (),
) -> Table:
    """Events of the local days [first, end): `user_id`, `event_type`, `ts`, `day` (days since 1970).

    `columns` names further columns of the events that the table has.
    """
    first, end = span
    start, stop = local_midnight(first, zone_name), local_midnight(end, zone_name)
    events = engine.events(lake, start, stop)
    days = [first + _ONE_DAY * n for n in range((end - first).days)]
    midnights = [to_micros(local_midnight(day, zone_name)) for day in days]
    quarters = np.arange(to_micros(start) // _QUARTER_US, to_micros(stop) // _QUARTER_US)
    day = np.searchsorted(midnights, quarters * _QUARTER_US, side="right") - 1
    calendar = pyarrow.table({"quarter": quarters, "day": day + (first - EPOCH_DAY).days})
    # Selected by name: the lake's folders may add a column `day`.
    names = ("user_id", "event_type", "ts", *columns)
    rows = events.select(*names, quarter=(events.ts // _QUARTER_US).cast("int64"))
    return rows.join(engine.table(calendar), "quarter")
