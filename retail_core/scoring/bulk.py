"""Scores of every eligible user made on Spark's executors, partition by partition, and left as Parquet."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import pyarrow

from retail_core.features.batch.spark_partitions import write_partitions
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.model.served_model import ServedModel
from retail_core.scoring.scores import eligible_pairs, predict_features
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
"""Columns of the scores; a rank would need all of them in one place."""


@dataclass(frozen=True)
class BulkScoreReport:
    """What was written: a folder of Parquet files with one row per eligible user."""

    users: int
    model_version: str
    as_of: datetime
    seconds: float
    file: str


def score_in_bulk(
    lake: LakeReader, served: ServedModel, engine: EngineOptions, *, as_of: datetime, out: str
) -> BulkScoreReport:
    """Score every eligible user at `as_of` (aware) on Spark; nothing is stored in MongoDB.

    The numbers are those of `scoring.score`. The model travels to the executors, which must be able to
    import this package.

    Args:
        lake: where the events are.
        served: the model; `load_champion` gives the one in production.
        engine: Spark with its master and memory limit.
        as_of: the cut-off.
        out: folder or object-store URL, replaced.

    Raises:
        DataError: nobody is eligible.
        DependencyError: Spark cannot be started.
    """
    started = time.perf_counter()
    instant = to_utc_ms(as_of)
    pairs = eligible_pairs(lake, served.spec, instant, engine)
    use = partial(predict_features, served)
    users = write_partitions(lake, pairs, served.spec.feature_set, engine, use, SCORES_ARROW, out)
    seconds = round(time.perf_counter() - started, 3)
    return BulkScoreReport(users, served.spec.version, instant, seconds, out)
