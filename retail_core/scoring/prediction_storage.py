"""Store predictions in MongoDB, and as one Parquet file per scoring run in the lake for analytics."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.schemas import Prediction
from retail_core.store.lake.folder import LakeFolder
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.predictions import replace_predictions
from retail_core.times import iso, to_utc_ms


def store_predictions(
    store: Store, predictions: DataFrame[Prediction], as_of: datetime, version: str
) -> None:
    """Store the predictions of one scoring run in MongoDB and in the lake.

    They replace stored predictions of the same version and cut-offs. Rows of the policy `first-visit` each
    have a cut-off of their own; the file in the lake is named after `as_of`, that of the run.
    """
    for instant, window in predictions.groupby("as_of", sort=True):
        cutoff = to_utc_ms(cast("pd.Timestamp", instant).to_pydatetime())
        replace_predictions(store, cast("DataFrame[Prediction]", window), as_of=cutoff, model_version=version)
    write_lake_predictions(store.settings.lake_url, predictions, as_of=as_of, version=version)


def write_lake_predictions(
    lake_url: str, predictions: DataFrame[Prediction], *, as_of: datetime, version: str
) -> str:
    """Write the predictions of one scoring run to the lake, replacing those of the same cut-off and version.

    The file, `predictions/as_of=20250131T000000Z/version=3.parquet`, appears only when it is complete.
    Returns its path or URL.
    """
    folder, path = LakeFolder(lake_url), _path(as_of, version)
    folder.write(path, lambda stream: predictions.to_parquet(stream, index=False))
    return folder.url_of(path)


def read_lake_predictions(lake_url: str, *, as_of: datetime, version: str) -> DataFrame[Prediction]:
    """The predictions of one scoring run, in order of rank.

    Raises:
        FileNotFoundError: the lake has no predictions of that cut-off and version.
    """
    folder = LakeFolder(lake_url)
    with folder.filesystem.open_input_file(folder.path_of(_path(as_of, version))) as stream:
        return Prediction.validate(pd.read_parquet(stream))


def _path(as_of: datetime, version: str) -> str:
    stamp = iso(as_of).replace("-", "").replace(":", "")
    return f"predictions/as_of={stamp}/version={version}.parquet"
