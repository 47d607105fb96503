"""Labels: did the user buy within the horizon after the cut-off?"""

from __future__ import annotations

from datetime import datetime
from typing import cast

import numpy as np
import pandas as pd
import pyarrow
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError
from retail_core.features.batch.engine import DUCKDB, EngineOptions, open_engine
from retail_core.features.kinds import HOUR_US
from retail_core.features.question import Question
from retail_core.features.reader import LakeReader
from retail_core.schemas import Pairs
from retail_core.times import iso


def label(
    lake: LakeReader,
    question: Question,
    pairs: DataFrame[Pairs],
    *,
    known_until: datetime | None = None,
    engine: EngineOptions = DUCKDB,
) -> pd.Series[bool]:
    """True where the user has a purchase with as_of <= event_time < as_of + horizon.

    Args:
        lake: where the events are.
        question: the horizon.
        pairs: `user_id`, `as_of`.
        known_until: the instant up to which events are known; a pair whose horizon reaches beyond it
            has no label yet, and asking for one is refused. None trusts the pairs.
        engine: what computes.

    Returns:
        One bool per pair, with the pairs' index, named `label`.

    Raises:
        DataError: a pair's horizon ends after `known_until`.
    """
    hits = np.zeros(len(pairs), bool)
    if not len(pairs):
        return _labels(hits, pairs)
    first, last = pairs["as_of"].min().to_pydatetime(), pairs["as_of"].max().to_pydatetime()
    if known_until is not None and last + question.horizon > known_until:
        raise DataError(
            f"The label at {iso(last)} is not known before {iso(last + question.horizon)}, "
            f"and events are known until {iso(known_until)} only.",
            remedy="leave out cut-offs younger than the horizon; an unknown label is not a negative one.",
        )
    as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
    wanted = pyarrow.table(
        {
            "pid": np.arange(len(pairs)),
            "user_id": pyarrow.array(pairs["user_id"], pyarrow.string()),
            "as_of": as_of,
            "end": as_of + question.horizon_hours * HOUR_US,
        }
    )
    with open_engine(engine) as running:
        events = running.events(lake, first, last + question.horizon)
        bought = events.filter(events.event_type == "purchase").select("user_id", "ts").distinct()
        joined = bought.join(running.table(wanted), "user_id")
        inside = joined.filter(joined.ts >= joined.as_of, joined.ts < joined.end)
        found = running.fetch(inside.select("pid").distinct())
    hits[found.column("pid").to_numpy()] = True
    return _labels(hits, pairs)


def _labels(hits: np.ndarray[tuple[int], np.dtype[np.bool_]], pairs: pd.DataFrame) -> pd.Series[bool]:
    return cast("pd.Series[bool]", pd.Series(hits, index=pairs.index, name="label"))
