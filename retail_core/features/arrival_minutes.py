"""Minutes with events, from which the rhythm of a log is learned."""

from __future__ import annotations

from datetime import datetime

import ibis
import numpy as np

from retail_core.arrays import IntArray
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, open_engine
from retail_core.features.time_windows import MINUTE_US


def active_minutes(
    lake: LakeReader, start: datetime, end: datetime, engine: EngineOptions = DUCKDB
) -> IntArray:
    """Minutes since 1970 UTC that have at least one event of [start, end) (aware), ascending."""
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, start, end)
        minutes = events.select(minute=(events.ts // MINUTE_US).cast("int64")).distinct()
        table = query_engine.to_arrow(minutes.order_by(ibis.asc("minute")))
    return np.asarray(table["minute"].to_numpy(), dtype=np.int64)
