"""Every feature of every eligible user at given instants, as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

import pandas as pd
import pyarrow
from pyarrow import parquet

from retail_core.csv_export import require_parent_folder
from retail_core.errors import DataError
from retail_core.features.batch.attribute_columns import infer_attributes
from retail_core.features.batch.batch_interpreter import feature_batches
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.engine import DUCKDB, EngineOptions
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.file_locks import replace_file
from retail_core.store.lake.table import Lake


def export_features(
    lake: Lake,
    task: PredictionTask,
    instants: Sequence[datetime],
    out: Path,
    *,
    engine: EngineOptions = DUCKDB,
) -> dict[str, int]:
    """Write `user_id`, `as_of`, then the features (float64) of all eligible users; `out` is replaced.

    Rows are in the order of user and cut-off; those of Spark in the order of its partitions. Some users at a
    time are in memory.
    Attributes are inferred from rows valid before the first instant, so that no later one shapes the columns.

    Raises:
        DataError: nobody is eligible at any of the instants.
        InputError: `out` is in no folder.
    """
    require_parent_folder(out)
    pinned = lake.snapshot()
    pairs = daily_pairs(pinned, task, instants, engine)
    if pairs.empty:
        raise DataError(
            f"Nobody was active in the {task.eligible_days} days before the given instants.",
            remedy="choose an --as-of within the data.",
        )
    feature_set = default_feature_set(task, infer_attributes(pinned, min(instants)))
    batches = feature_batches(pinned, pairs, feature_set, engine=engine)
    with replace_file(out) as stream:
        _write_batches(stream, batches)
    return {
        "rows": len(pairs),
        "users": int(pairs["user_id"].nunique()),
        "features": len(feature_set.columns),
    }


def _write_batches(stream: IO[bytes], batches: Iterator[pd.DataFrame]) -> None:
    first = pyarrow.Table.from_pandas(next(batches), preserve_index=False)
    with parquet.ParquetWriter(stream, first.schema) as writer:
        writer.write_table(first)
        for batch in batches:
            writer.write_table(pyarrow.Table.from_pandas(batch, first.schema, preserve_index=False))
