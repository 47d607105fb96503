"""Context features by day, computed where the days before are known and stored for the service to look up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, cast

from pymongo import ReplaceOne

from retail_core.features.batch.context import shop_on
from retail_core.features.batch.engine import EngineOptions
from retail_core.features.question import Question
from retail_core.features.reader import LakeReader
from retail_core.features.shop_measures import CONTEXT_DAYS, Shop, Values, context_key, local_day
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.shop import shop_zone
from retail_core.times import midnights

if TYPE_CHECKING:
    from retail_core.store.lake.table import Lake

_ONE, _MILLISECOND = timedelta(days=1), timedelta(milliseconds=1)


def keep_context(
    store: Store, lake: LakeReader, question: Question, as_of: datetime, *, days: int = 1
) -> Shop:
    """Compute and store what is known of the shop on the local day of `as_of` (aware) and those before it.

    Of the `days` in all, those before the first event are left out. A day that was stored before is
    replaced: late events may have changed it.
    """
    last = local_day(as_of, question)
    wanted = [last - n * _ONE for n in range(days)]
    found = shop_on(lake, question, wanted, EngineOptions.from_settings(store.settings))
    shop = {day: values for day, values in found.items() if values or day == last}
    store.context.bulk_write([_replace(day, values, question, as_of) for day, values in shop.items()])
    return shop


def store_recent_context(store: Store, lake: Lake, as_of: datetime) -> None:
    """Store the context of the local day of `as_of` (aware) and the days before it that features can use."""
    question = Question.from_settings(store.settings, shop_zone(store))
    keep_context(store, lake.snapshot(), question, as_of, days=CONTEXT_DAYS)


def keep_known_context(store: Store, lake: Lake) -> int:
    """Store the context of the days that the lake now tells of; how many.

    They are the last `CONTEXT_DAYS` up to and including the day after that of the newest event, which begins
    at the shop's next midnight: who asks then finds what a batch over the same events would compute.
    """
    lake = lake.snapshot()
    newest = lake.state().newest_event
    if newest is None:
        return 0
    question = Question.from_settings(store.settings, shop_zone(store))
    midnight = next(midnights(newest + _MILLISECOND, newest + 2 * _ONE, question.timezone))
    return len(keep_context(store, lake, question, midnight, days=CONTEXT_DAYS))


def stored_context(store: Store, question: Question, as_of: datetime) -> Values | None:
    """Context features stored for the local day of `as_of`; None where there are none."""
    document = store.context.find_one({"_id": context_key(local_day(as_of, question), question)})
    return None if document is None else cast("Mapping[str, float | None]", document["values"])


def _replace(day: date, values: Values, question: Question, as_of: datetime) -> ReplaceOne[Document]:
    plain = {name: _null(value) for name, value in values.items()}
    document = {"day": day.isoformat(), "as_of": as_of, "values": plain}
    return ReplaceOne({"_id": context_key(day, question)}, document, upsert=True)


def _null(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
