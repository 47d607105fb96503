"""Context features of a day, computed where `train` and `score` run and stored for the service to look up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import cast

from retail_core.features.context import shop_on
from retail_core.features.engine import EngineOptions
from retail_core.features.question import Question
from retail_core.features.reader import LakeReader
from retail_core.features.shop_measures import Shop, context_key, local_day
from retail_core.store.mongo import Store


def keep_context(store: Store, lake: LakeReader, question: Question, as_of: datetime) -> Shop:
    """Compute and store what is known of the shop on the local day of `as_of` (aware).

    A day that was stored before is replaced: late events may have changed it.
    """
    day = local_day(as_of, question)
    shop = shop_on(lake, question, [day], EngineOptions.from_settings(store.settings))
    values = {name: _null(value) for name, value in shop[day].items()}
    key = context_key(day, question)
    store.context.replace_one(
        {"_id": key}, {"day": day.isoformat(), "as_of": as_of, "values": values}, upsert=True
    )
    return shop


def stored_context(store: Store, question: Question, as_of: datetime) -> Mapping[str, float | None]:
    """Context features stored for the local day of `as_of`; empty where there are none."""
    document = store.context.find_one({"_id": context_key(local_day(as_of, question), question)})
    return {} if document is None else cast("Mapping[str, float | None]", document["values"])


def _null(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
