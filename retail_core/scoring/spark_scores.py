"""Score all eligible users on Spark's executors, partition by partition, and write the scores as Parquet."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pyarrow

from retail_core.features.batch.spark_partitions import write_partitions
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.model.served_model import ServedModel
from retail_core.scoring.list_predictions import eligible_pairs, predict_features
from retail_core.times import to_utc_ms

SCORES_ARROW = pyarrow.schema(
    [
        ("user_id", pyarrow.string()),
        ("as_of", pyarrow.timestamp("us", tz="UTC")),
        ("model_version", pyarrow.string()),
        ("policy", pyarrow.string()),
        ("probability", pyarrow.float64()),
        ("raw_score", pyarrow.float64()),
        ("will_purchase", pyarrow.bool_()),
        ("contact", pyarrow.bool_()),
    ]
)
"""Columns of the files. There is no rank, which would need all scores in one process."""


@dataclass(frozen=True)
class SparkScoreReport:
    """A written folder of Parquet files with one row per eligible user."""

    users: int
    model_version: str
    as_of: datetime
    seconds: float
    file: str


def score_on_spark(
    lake: LakeReader, served: ServedModel, engine: EngineOptions, *, as_of: datetime, out: str
) -> SparkScoreReport:
    """Score every eligible user at `as_of` (aware); nothing is stored in MongoDB.

    The scores equal those of `scores.score`. The model is sent to the executors, where this package must be
    importable.

    Args:
        lake: the events, pinned to one state.
        served: the model.
        engine: Spark with its master and memory limit.
        as_of: the cut-off.
        out: folder or object-store URL, replaced.

    Raises:
        DataError: no user is eligible.
        DependencyError: Spark cannot be started.
    """
    started = time.perf_counter()
    instant = to_utc_ms(as_of)
    pairs = eligible_pairs(lake, served.spec, instant, engine)
    predict = partial(predict_features, served)
    users = write_partitions(lake, pairs, served.spec.feature_set, engine, predict, SCORES_ARROW, out)
    seconds = round(time.perf_counter() - started, 3)
    return SparkScoreReport(users, served.spec.version, instant, seconds, out)
