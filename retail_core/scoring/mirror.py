"""Predictions in the lake: one Parquet file per scoring run, for analytics that never ask MongoDB."""

from __future__ import annotations

from datetime import datetime

import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.schemas import Prediction
from retail_core.store.lake.folder import LakeFolder
from retail_core.times import iso


def mirror_predictions(
    lake_url: str, predictions: DataFrame[Prediction], *, as_of: datetime, version: str
) -> str:
    """Write one run's predictions to the lake in place of those of the same cut-off and version.

    The file is `predictions/as_of=20250131T000000Z/version=3.parquet`, complete as soon as it has that
    name. Returns its path or URL.
    """
    folder, path = LakeFolder(lake_url), _path(as_of, version)
    folder.write(path, lambda stream: predictions.to_parquet(stream, index=False))
    return folder.url_of(path)


def read_mirror(lake_url: str, *, as_of: datetime, version: str) -> DataFrame[Prediction]:
    """One run's predictions, in order of rank.

    Raises:
        FileNotFoundError: that run was not kept.
    """
    folder = LakeFolder(lake_url)
    with folder.filesystem.open_input_file(folder.path_of(_path(as_of, version))) as stream:
        return Prediction.validate(pd.read_parquet(stream))


def _path(as_of: datetime, version: str) -> str:
    stamp = iso(as_of).replace("-", "").replace(":", "")
    return f"predictions/as_of={stamp}/version={version}.parquet"
