"""Labels: whether the user purchases within the horizon after the cut-off."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import numpy as np
import pandas as pd
import pyarrow
from pandera.typing.pandas import DataFrame

from retail_core.arrays import BoolVector
from retail_core.errors import DataError
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, open_engine
from retail_core.features.persons import Persons, event_owners, read_persons
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import HOUR_US
from retail_core.schemas import Pairs
from retail_core.times import iso


def label_pairs(
    lake: LakeReader,
    task: PredictionTask,
    pairs: DataFrame[Pairs],
    *,
    known_until: datetime | None = None,
    engine: EngineOptions = DUCKDB,
) -> pd.Series[bool]:
    """True where the user has a purchase with as_of <= event_time < as_of + horizon.

    The user is the person to whom, as known at the end of the horizon, events of the id at `as_of` belong,
    and the purchase may be of any id of that person: an anonymous user that logs in and buys is a buyer.

    Args:
        lake: where the events are.
        task: the horizon.
        pairs: `user_id`, `as_of`.
        known_until: the instant up to which events are known; None trusts the pairs.
        engine: runs the query.

    Returns:
        One bool per pair, with the pairs' index, named `label`.

    Raises:
        DataError: a pair's horizon ends after `known_until`: its label is unknown, not negative.
    """
    labels = np.zeros(len(pairs), bool)
    if not len(pairs):
        return _label_series(labels, pairs)
    first, last = pairs["as_of"].min().to_pydatetime(), pairs["as_of"].max().to_pydatetime()
    if known_until is not None and last + task.horizon > known_until:
        raise DataError(
            f"The label at {iso(last)} is not known before {iso(last + task.horizon)}, "
            f"and events are known until {iso(known_until)} only.",
            remedy="leave out cut-offs younger than the horizon; an unknown label is not a negative one.",
        )
    as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
    label_windows = pyarrow.table(
        {
            "pid": np.arange(len(pairs)),
            "user_id": pyarrow.array(pairs["user_id"], pyarrow.string()),
            "as_of": as_of,
            "end": as_of + task.horizon_hours * HOUR_US,
        }
    )
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, first, last + task.horizon)
        purchases = events.filter(events.event_type == "purchase").select("user_id", "ts").distinct()
        persons = read_persons(lake)
        if persons is None:
            joined = purchases.join(query_engine.table(label_windows), "user_id")
        else:
            owned = event_owners(query_engine, purchases, persons).rename(user_id="person")
            windows = query_engine.table(_windows_of_persons(persons, label_windows))
            joined = owned.join(windows, "user_id")
            joined = joined.filter(joined.known_from < joined.end, joined.end <= joined.known_until)
        inside = joined.filter(joined.ts >= joined.as_of, joined.ts < joined.end)
        positive = query_engine.to_arrow(inside.select("pid").distinct())
    labels[positive.column("pid").to_numpy()] = True
    return _label_series(labels, pairs)


def _windows_of_persons(persons: Persons, label_windows: pyarrow.Table) -> pyarrow.Table:
    """The label windows with the person of each user, as known at its end."""
    users = label_windows.column("user_id").to_pandas()
    times = (label_windows.column(name).to_numpy() for name in ("as_of", "end"))
    owners = pyarrow.array(persons.at(users, *times), pyarrow.string())
    return label_windows.set_column(label_windows.schema.get_field_index("user_id"), "user_id", owners)


def _label_series(labels: BoolVector, pairs: pd.DataFrame) -> pd.Series[bool]:
    return cast("pd.Series[bool]", pd.Series(labels, index=pairs.index, name="label"))
