"""Features of many pairs on Spark, used on the executors that compute them: only the result leaves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pyarrow
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.batch_interpreter import BatchInterpreter, attribute_values
from retail_core.features.batch.feature_kernel import FeatureKernel
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.features.engine.spark_engine import spark_engine
from retail_core.features.feature_set import FeatureSet
from retail_core.schemas import TIME_DTYPE, Pairs

RowFunction = Callable[[pd.DataFrame], pd.DataFrame]
"""From `user_id`, `as_of` and the feature set's columns to rows of the result, called per partition."""


@dataclass(frozen=True)
class _FeaturesThenRows:
    """A partition function: computes features, then applies a row function to them."""

    kernel: FeatureKernel
    columns: tuple[str, ...]
    row_function: RowFunction
    schema: pyarrow.Schema

    def __call__(self, pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        """Rows of `schema`."""
        if not len(pairs):
            return self.schema.empty_table()
        features = self.kernel(pairs.drop_columns("user_id"), events)
        as_of = pd.to_datetime(pd.Series(pairs.column("as_of").to_numpy()), unit="us", utc=True)
        columns = {"user_id": pairs.column("user_id").to_pandas(), "as_of": as_of.astype(TIME_DTYPE)}
        for name in self.columns:
            table = pairs if name in pairs.column_names else features
            columns[name] = table.column(name).to_numpy()
        return pyarrow.Table.from_pandas(
            self.row_function(pd.DataFrame(columns)), self.schema, preserve_index=False
        )


def write_partitions(  # noqa: PLR0913, PLR0917 - source, rows, features, engine, function, schema, target
    lake: LakeReader,
    pairs: DataFrame[Pairs],
    feature_set: FeatureSet,
    engine: EngineOptions,
    row_function: RowFunction,
    schema: pyarrow.Schema,
    out: str,
) -> int:
    """Apply a function to the features of every pair and write a folder of Parquet files; returns its rows.

    Args:
        lake: where the events are.
        pairs: `user_id`, `as_of` (UTC), each once.
        feature_set: which features, for which prediction task.
        engine: a Spark engine; its executors must be able to import this package.
        row_function: called once a partition, with rows in no particular order; sent to the executors.
        schema: of its result.
        out: folder or object-store URL, replaced.

    Raises:
        InputError: a feature of the set is not in the list of features.
        DependencyError: Spark cannot be started.
    """
    with spark_engine(engine) as spark:
        interpreter = BatchInterpreter(spark, lake, feature_set.task, feature_set.plan(), None)
        numbered, events, kernel = interpreter.prepare(pairs)
        order = numbered.column("pid").to_numpy()
        users = pyarrow.array(pairs["user_id"], pyarrow.string())
        numbered = numbered.append_column("user_id", users.take(order))
        for name, values in attribute_values(lake, pairs, feature_set).items():
            numbered = numbered.append_column(name, pyarrow.array(values[order]))
        function = _FeaturesThenRows(kernel, feature_set.columns, row_function, schema)
        rows = spark.map_users_to_frame(numbered, events, function)
        rows.write.mode("overwrite").parquet(out)
        return int(spark.session.read.parquet(out).count())
