"""Context features of the shop by local day, stored in MongoDB where the service looks them up.

They need the events of all users, which only the lake has; so they are computed by `store_shop_context`
wherever events are stored or models trained, and by scoring for the day it scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import cast

from pymongo import ReplaceOne

from retail_core.features.batch.context_features import context_by_day
from retail_core.features.cutoff_context import (
    CONTEXT_DAYS,
    ContextByDay,
    ContextFeatures,
    context_key,
    local_day,
)
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader
from retail_core.features.prediction_task import PredictionTask
from retail_core.store.mongo.connection import Document, Store
from retail_core.times import midnights
from retail_core.workspace import Workspace

_ONE_DAY, _ONE_MILLISECOND = timedelta(days=1), timedelta(milliseconds=1)


def compute_context(
    lake: LakeReader,
    task: PredictionTask,
    as_of: datetime,
    engine: EngineOptions = DUCKDB,
    *,
    days: int = 1,
) -> ContextByDay:
    """Context features of the local day of `as_of` (aware) and of the `days - 1` days before it.

    Earlier days without events before them are left out.
    """
    last = local_day(as_of, task)
    computed = context_by_day(lake, task, [last - n * _ONE_DAY for n in range(days)], engine)
    return {day: values for day, values in computed.items() if values or day == last}


def store_context(store: Store, context: ContextByDay, task: PredictionTask, as_of: datetime) -> None:
    """Store context features by day, replacing those of the same days: late events may have changed them."""
    store.context.bulk_write([_replacement(day, values, task, as_of) for day, values in context.items()])


def store_shop_context(workspace: Workspace) -> int:
    """Compute and store the context features of every recent day that the lake covers; returns their number.

    Whatever stores events or trains calls it, with a synchronized lake. The days are the last `CONTEXT_DAYS`
    up to the one after the newest event, which begins at the shop's next midnight. A request for that day
    then gets the same values as a batch over the same events.
    """
    lake, task = workspace.lake.snapshot(), workspace.task
    newest = lake.state().newest_event
    if newest is None:
        return 0
    next_midnight = next(midnights(newest + _ONE_MILLISECOND, newest + 2 * _ONE_DAY, workspace.zone))
    context = compute_context(lake, task, next_midnight, workspace.engine, days=CONTEXT_DAYS)
    store_context(workspace.store, context, task, next_midnight)
    return len(context)


def stored_context(store: Store, task: PredictionTask, as_of: datetime) -> ContextFeatures | None:
    """Context features stored for the local day of `as_of`; None where there are none."""
    document = store.context.find_one({"_id": context_key(local_day(as_of, task), task)})
    return None if document is None else cast("Mapping[str, float | None]", document["values"])


def _replacement(
    day: date, values: ContextFeatures, task: PredictionTask, as_of: datetime
) -> ReplaceOne[Document]:
    nullable = {name: None if _is_missing(value) else value for name, value in values.items()}
    document = {"day": day.isoformat(), "as_of": as_of, "values": nullable}
    return ReplaceOne({"_id": context_key(day, task)}, document, upsert=True)


def _is_missing(value: float | None) -> bool:
    return value is None or math.isnan(value)
