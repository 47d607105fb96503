"""Features of many pairs on Spark, used where they are made: nothing but the result leaves the executors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import pyarrow
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.combine import Finish
from retail_core.features.batch.engine import EngineOptions
from retail_core.features.batch.interpreter import Batch, attribute_values
from retail_core.features.batch.spark import spark_engine
from retail_core.features.definitions import FeatureSet
from retail_core.features.reader import LakeReader
from retail_core.schemas import TIME_DTYPE, Pairs

Use = Callable[[pd.DataFrame], pd.DataFrame]
"""From `user_id`, `as_of` and the feature set's columns to rows of the result, in each partition."""


@dataclass(frozen=True)
class _Then:
    """Features, then what is made of them."""

    finish: Finish
    columns: tuple[str, ...]
    use: Use
    schema: pyarrow.Schema

    def __call__(self, pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        """Rows of `schema`."""
        if not len(pairs):
            return self.schema.empty_table()
        known = pairs.drop_columns("user_id")
        found = {name: pairs.column(name).to_numpy() for name in self.columns if name in pairs.column_names}
        made = self.finish(known, events)
        found |= {name: made.column(name).to_numpy() for name in self.columns if name not in found}
        as_of = pd.to_datetime(pd.Series(pairs.column("as_of").to_numpy()), unit="us", utc=True)
        keys = {"user_id": pairs.column("user_id").to_pandas(), "as_of": as_of.astype(TIME_DTYPE)}
        frame = pd.DataFrame({**keys, **{name: found[name] for name in self.columns}})
        return pyarrow.Table.from_pandas(self.use(frame), self.schema, preserve_index=False)


def write_parquet(  # noqa: PLR0913, PLR0917 - where from, about whom, how, where to
    lake: LakeReader,
    pairs: DataFrame[Pairs],
    feature_set: FeatureSet,
    engine: EngineOptions,
    use: Use,
    schema: pyarrow.Schema,
    out: str,
) -> int:
    """Write what `use` makes of every pair's features as a folder of Parquet files; returns its rows.

    Args:
        lake: where the events are.
        pairs: `user_id`, `as_of` (UTC), each once.
        feature_set: which features, of which question.
        engine: a Spark engine; its executors must be able to import this package.
        use: called once a partition, with rows in no particular order; travels to the executors.
        schema: of its result.
        out: folder or object-store URL, replaced.

    Raises:
        InputError: a feature of the set is not in the list of features.
        DependencyError: Spark cannot be started.
    """
    with spark_engine(engine) as running:
        batch = Batch(running, lake, feature_set.question, feature_set.plan(), None)
        keyed, events, finish = batch.prepare(pairs)
        order = keyed.column("pid").to_numpy()
        users = pyarrow.array(pairs["user_id"], pyarrow.string())
        keyed = keyed.append_column("user_id", users.take(order))
        for name, values in attribute_values(lake, pairs, feature_set).items():
            keyed = keyed.append_column(name, pyarrow.array(values[order]))
        then = _Then(finish, feature_set.columns, use, schema)
        rows = running.finished(keyed, events, then)
        rows.write.mode("overwrite").parquet(out)
        return int(running.session.read.parquet(out).count())
