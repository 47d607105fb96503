"""Store predictions in MongoDB, and by scoring run in the lake for analytics."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import pandas as pd
import pyarrow as pa
from pandera.typing.pandas import DataFrame

from retail_core.schemas import TIME_DTYPE, Prediction
from retail_core.store.lake.prediction_table import read_run, replace_run
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.predictions import replace_predictions
from retail_core.times import to_utc_ms

_COLUMNS = tuple(Prediction.to_schema().columns)


def store_predictions(
    store: Store, predictions: DataFrame[Prediction], as_of: datetime, version: str
) -> None:
    """Store the predictions of one scoring run in MongoDB and in the lake.

    They replace stored predictions of the same version and cut-offs. Rows of the policy `first-visit` each
    have a cut-off of their own; in the lake they are found by `as_of`, that of the run.
    """
    for instant, window in predictions.groupby("as_of", sort=True):
        cutoff = to_utc_ms(cast("pd.Timestamp", instant).to_pydatetime())
        replace_predictions(store, cast("DataFrame[Prediction]", window), as_of=cutoff, model_version=version)
    write_lake_predictions(store.settings.lake_url, predictions, as_of=as_of, version=version)


def write_lake_predictions(
    lake_url: str, predictions: DataFrame[Prediction], *, as_of: datetime, version: str
) -> None:
    """Write the predictions of one scoring run to the lake, replacing those of the same cut-off and version.

    Raises:
        DependencyError: other processes write to the lake all the time.
    """
    rows = pa.Table.from_pandas(predictions, preserve_index=False)
    replace_run(lake_url, rows, as_of=as_of, version=version)


def read_lake_predictions(lake_url: str, *, as_of: datetime, version: str) -> DataFrame[Prediction]:
    """The predictions of one scoring run, in order of rank.

    Raises:
        FileNotFoundError: the lake has no predictions of that cut-off and version.
    """
    frame = read_run(lake_url, as_of=as_of, version=version).to_pandas()
    frame = frame.assign(model_version=version, as_of=frame["as_of"].astype(TIME_DTYPE))
    typed = frame.astype({"user_id": "str", "model_version": "str", "policy": "str"})
    return Prediction.validate(typed.sort_values("rank", ignore_index=True)[list(_COLUMNS)])
