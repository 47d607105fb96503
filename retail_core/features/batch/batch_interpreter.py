"""The batch interpreter: features of many (user, cut-off) pairs, in one pass over the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow
from ibis.expr.types import Table
from pandera.typing.pandas import DataFrame

from retail_core.arrays import FloatVector, IntVector
from retail_core.features.batch.attribute_columns import attribute_columns_as_of
from retail_core.features.batch.context_features import compute_context_features
from retail_core.features.batch.feature_kernel import FeatureKernel
from retail_core.features.batch.required_columns import RequiredColumns
from retail_core.features.cutoff_context import ContextByDay, clock_features, local_day
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, QueryEngine, open_engine
from retail_core.features.feature_set import FeatureSet
from retail_core.features.kinds import Context, Feature
from retail_core.features.persons import PersonHistories, read_persons, row_histories
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import Pairs
from retail_core.times import from_micros

BATCH_ROWS = 50_000
"""Pairs of a batch, about 75 MB of features."""


def compute_features(
    lake: LakeReader,
    pairs: DataFrame[Pairs],
    feature_set: FeatureSet,
    *,
    engine: EngineOptions = DUCKDB,
    context: ContextByDay | None = None,
) -> pd.DataFrame:
    """The features of every pair.

    Args:
        lake: where the events are.
        pairs: `user_id`, `as_of` (UTC) and any further columns; a user without events is allowed. With
            a column `policy`, attributes without a date count as known in `first-visit` rows.
        feature_set: which features, for which prediction task.
        engine: runs the queries; the results are equal.
        context: context features by local day, null for a day it lacks; None computes them from the lake.

    Returns:
        The pairs' columns and index in their order, then `feature_set.columns` as float64, null = NaN.

    Raises:
        InputError: a feature of the set is not in the list of features.
        DependencyError: the engine is Spark and cannot be started.
    """
    columns = list(feature_set.columns)
    matrix = np.empty((len(columns), len(pairs)))
    attributes = attribute_values(lake, pairs, feature_set)
    for row, name in zip(matrix, columns, strict=True):
        if name in attributes:
            row[:] = attributes[name]
    for table in _feature_tables(lake, pairs, feature_set, engine, context):
        positions = table.column("pid").to_numpy()
        for row, name in zip(matrix, feature_set.names, strict=False):
            row[positions] = table.column(name).to_numpy()
    frame = pd.DataFrame(matrix.T, index=pairs.index, columns=columns, copy=False)
    return pd.concat([pairs, frame], axis=1)


def feature_batches(
    lake: LakeReader,
    pairs: DataFrame[Pairs],
    feature_set: FeatureSet,
    *,
    engine: EngineOptions = DUCKDB,
    context: ContextByDay | None = None,
) -> Iterator[pd.DataFrame]:
    """The rows of `compute_features` in parts of whole users, in one pass over the events.

    For whoever uses the features of many users but need not hold all of them in memory.

    Args:
        lake: as `compute_features`.
        pairs: as `compute_features`.
        feature_set: as `compute_features`.
        engine: as `compute_features`.
        context: as `compute_features`.

    Yields:
        Rows of at most `BATCH_ROWS` pairs, each pair in one of them, with the columns and the index of
        `compute_features`; parts and their rows in the order of users.
    """
    columns = list(feature_set.columns)
    attributes = attribute_values(lake, pairs, feature_set)
    for table in _feature_tables(lake, pairs, feature_set, engine, context):
        for start in range(0, len(table), BATCH_ROWS):
            part = table.slice(start, BATCH_ROWS)
            positions = part.column("pid").to_numpy()
            matrix = np.empty((len(columns), len(part)))
            for row, name in zip(matrix, columns, strict=True):
                row[:] = attributes[name][positions] if name in attributes else part.column(name).to_numpy()
            selected = pairs.iloc[positions]
            frame = pd.DataFrame(matrix.T, index=selected.index, columns=columns, copy=False)
            yield pd.concat([selected, frame], axis=1)


def _feature_tables(
    lake: LakeReader,
    pairs: pd.DataFrame,
    feature_set: FeatureSet,
    engine: EngineOptions,
    context: ContextByDay | None,
) -> Iterator[pyarrow.Table]:
    """Tables of `pid` (position of a pair in `pairs`) and all features but attributes, each pair once."""
    features = feature_set.plan()
    if not features:
        yield pyarrow.table({"pid": np.arange(len(pairs))})
    elif len(pairs):
        with open_engine(engine) as query_engine:
            yield from BatchInterpreter(query_engine, lake, feature_set.task, features, context).run(pairs)


def attribute_values(
    lake: LakeReader, pairs: pd.DataFrame, feature_set: FeatureSet
) -> dict[str, FloatVector]:
    """One float64 array per attribute column of the set, in the order of `pairs`."""
    if not feature_set.attributes:
        return {}
    return attribute_columns_as_of(lake, pairs, feature_set.attributes)


class BatchInterpreter:
    """One run: the engine finds and joins the events of the pairs' users, a `FeatureKernel` computes."""

    def __init__(
        self,
        engine: QueryEngine,
        lake: LakeReader,
        task: PredictionTask,
        features: Sequence[Feature],
        context: ContextByDay | None,
    ) -> None:
        self.engine = engine
        self.lake = lake
        self.task = task
        self.features = features
        self.context = context

    def run(self, pairs: pd.DataFrame) -> Iterator[pyarrow.Table]:
        """Tables of `pid` (position of a pair in `pairs`) and all features, each pair once, in any order."""
        return self.engine.map_users(*self.prepare(pairs))

    def prepare(self, pairs: pd.DataFrame) -> tuple[pyarrow.Table, Table, FeatureKernel]:
        """The numbered pairs by user and cut-off, their users' events, and the kernel to apply to both."""
        histories, numbered = self._number(pairs)
        as_of = numbered.column("as_of").to_numpy()
        start = from_micros(int(as_of.min()) - self.task.lookback_us)
        events = self.engine.events(self.lake, start, from_micros(int(as_of.max())))
        events = histories.select(self.engine, events)
        required = RequiredColumns.of(self.features)
        kernel = FeatureKernel(self.task, tuple(self.features), required.types)
        return numbered, required.select(events), kernel

    def _number(self, pairs: pd.DataFrame) -> tuple[PersonHistories, pyarrow.Table]:
        """Histories, and pairs (pid, uid, as_of, clock_*, context_*, by uid and as_of)."""
        as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
        persons = read_persons(self.lake)
        histories = row_histories(persons, pairs["user_id"], as_of, self.task.lookback_us)
        order = np.lexsort((as_of, histories.uid))
        as_of = as_of[order]
        numbered = {
            "pid": order,
            "uid": histories.uid[order],
            "as_of": as_of,
            **clock_columns(as_of, self.task.timezone),
            **self._context(as_of),
        }
        return histories, pyarrow.table(numbered)

    def _context(self, as_of: IntVector) -> dict[str, object]:
        names = [f.kind.name for f in self.features if isinstance(f.kind, Context)]
        if not names:
            return {}
        instants, positions = np.unique(as_of, return_inverse=True)
        days = [local_day(from_micros(int(instant)), self.task) for instant in instants]
        by_day = self.context
        if by_day is None:
            by_day = compute_context_features(self.engine, self.lake, self.task, {*days})
        rows = [by_day.get(day, {}) for day in days]
        columns = {name: np.array([row.get(name) for row in rows], np.float64) for name in names}
        return {f"context_{name}": column[positions] for name, column in columns.items()}


def clock_columns(as_of: IntVector, zone: str) -> dict[str, object]:
    """Hour, weekday and weekend flag of each cut-off (microseconds) in the shop's time zone."""
    instants, positions = np.unique(as_of, return_inverse=True)
    clocks = [clock_features(from_micros(int(instant)), zone) for instant in instants]
    return {
        f"clock_{name}": np.array([clock[name] for clock in clocks])[positions]
        for name in ("hour", "weekday", "weekend")
    }
