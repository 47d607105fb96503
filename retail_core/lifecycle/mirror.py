"""Predictions in the lake: one Parquet file per scoring run, for analytics that never ask MongoDB."""

from __future__ import annotations

import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.fs
from pandera.typing.pandas import DataFrame

from retail_core.schemas import Prediction
from retail_core.times import iso

FOLDER = "predictions"


def mirror_predictions(
    lake_url: str, predictions: DataFrame[Prediction], *, as_of: datetime, version: str
) -> str:
    """Write one run's predictions below `lake_url` in place of those of the same cut-off and version.

    The file is `predictions/as_of=20250131T000000Z/version=3.parquet`, complete as soon as it has that
    name. Returns its path in the lake.
    """
    filesystem, folder = _folder(lake_url, as_of)
    filesystem.create_dir(folder, recursive=True)
    target, partial = f"{folder}/version={version}.parquet", f"{folder}/.{uuid.uuid4().hex}.part"
    predictions.to_parquet(partial, index=False, filesystem=filesystem)
    filesystem.move(partial, target)
    return target


def read_mirror(lake_url: str, *, as_of: datetime, version: str) -> DataFrame[Prediction]:
    """One run's predictions, in order of rank.

    Raises:
        FileNotFoundError: that run was not kept.
    """
    filesystem, folder = _folder(lake_url, as_of)
    frame = pd.read_parquet(f"{folder}/version={version}.parquet", filesystem=filesystem, partitioning=None)
    return Prediction.validate(frame)


def _folder(lake_url: str, as_of: datetime) -> tuple[Any, str]:
    if "://" in lake_url:
        filesystem, root = pyarrow.fs.FileSystem.from_uri(lake_url)  # type: ignore[attr-defined]
    else:
        filesystem = pyarrow.fs.LocalFileSystem()  # type: ignore[attr-defined]
        root = str(Path(lake_url).absolute())
    stamp = iso(as_of).replace("-", "").replace(":", "")
    return filesystem, f"{root}/{FOLDER}/as_of={stamp}"
