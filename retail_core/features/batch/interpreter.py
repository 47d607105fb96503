"""The batch interpreter: features of many (user, cut-off) pairs, in one pass over the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow
from ibis.expr.types import Table
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.attributes import attributes_at, infer_attributes
from retail_core.features.batch.combine import Finish
from retail_core.features.batch.context import contexts
from retail_core.features.batch.engine import DUCKDB, Engine, EngineOptions, open_engine
from retail_core.features.batch.needs import Needs
from retail_core.features.clock import clock_parts
from retail_core.features.definitions import FeatureSet, Question
from retail_core.features.kinds import Context, Feature
from retail_core.features.reader import LakeReader, from_micros
from retail_core.features.shop_measures import Shop, local_day
from retail_core.schemas import Pairs

__all__ = ["compute", "infer_attributes"]

Micros = np.ndarray[tuple[int], np.dtype[np.int64]]


def compute(
    lake: LakeReader,
    pairs: DataFrame[Pairs],
    feature_set: FeatureSet,
    *,
    engine: EngineOptions = DUCKDB,
    shop: Shop | None = None,
) -> pd.DataFrame:
    """The features of every pair.

    Args:
        lake: where the events are.
        pairs: `user_id`, `as_of` (UTC) and any further columns; a user without events is allowed. With
            a column `policy`, attributes without a date count as known in `first-visit` rows.
        feature_set: which features, of which question.
        engine: what computes; the numbers are the same.
        shop: context features by local day, null where it lacks the day; None computes them from the lake.

    Returns:
        The pairs' columns and index in their order, then `feature_set.columns` as float64, null = NaN.

    Raises:
        InputError: a feature of the set is not in the list of features.
        DependencyError: Spark is asked for and cannot be started.
    """
    features = feature_set.plan()
    matrix = np.empty((len(feature_set.columns), len(pairs)))
    attributes = attribute_values(lake, pairs, feature_set)
    for line, name in zip(matrix, feature_set.columns, strict=True):
        if name in attributes:
            line[:] = attributes[name]
    if len(pairs) and features:
        with open_engine(engine) as running:
            for rows in Batch(running, lake, feature_set.question, features, shop).run(pairs):
                places = rows.column("pid").to_numpy()
                for line, name in zip(matrix, feature_set.names, strict=False):
                    line[places] = rows.column(name).to_numpy()
    frame = pd.DataFrame(matrix.T, index=pairs.index, columns=list(feature_set.columns), copy=False)
    return pd.concat([pairs, frame], axis=1)


def attribute_values(
    lake: LakeReader, pairs: pd.DataFrame, feature_set: FeatureSet
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """One float64 array per attribute column, in the order of `pairs`."""
    if not feature_set.attributes:
        return {}
    return attributes_at(lake, pairs, feature_set.attributes)


class Batch:
    """One run: the engine finds and joins the events of the pairs' users, `Finish` does the rest."""

    def __init__(
        self,
        engine: Engine,
        lake: LakeReader,
        question: Question,
        features: Sequence[Feature],
        shop: Shop | None,
    ) -> None:
        self.engine = engine
        self.lake = lake
        self.question = question
        self.features = features
        self.shop = shop

    def run(self, pairs: pd.DataFrame) -> Iterator[pyarrow.Table]:
        """Tables of `pid` (a pair's place in `pairs`) and every feature, each pair once, in any order."""
        return self.engine.finish(*self.prepare(pairs))

    def prepare(self, pairs: pd.DataFrame) -> tuple[pyarrow.Table, Table, Finish]:
        """The pairs as numbers, by user and cut-off, their users' events, and what remains to be done."""
        users, keyed = self._keyed(pairs)
        as_of = keyed.column("as_of").to_numpy()
        start = from_micros(int(as_of.min()) - self.question.lookback_us)
        events = self.engine.events(self.lake, start, from_micros(int(as_of.max())))
        events = events.join(self.engine.table(users), "user_id")
        needs = Needs.of(self.features)
        return keyed, needs.columns(events), Finish(self.question, tuple(self.features), needs.types)

    def _keyed(self, pairs: pd.DataFrame) -> tuple[pyarrow.Table, pyarrow.Table]:
        """Users (uid, user_id) and pairs (pid, uid, as_of, clock_*, context_*, by uid and as_of)."""
        codes, ids = pd.factorize(pairs["user_id"])
        as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
        order = np.lexsort((as_of, codes))
        as_of = as_of[order]
        users = {"uid": np.arange(len(ids)), "user_id": pyarrow.array(ids, pyarrow.string())}
        keyed = {
            "pid": order,
            "uid": codes[order],
            "as_of": as_of,
            **clock_columns(as_of, self.question.timezone),
            **self._context(as_of),
        }
        return pyarrow.table(users), pyarrow.table(keyed)

    def _context(self, as_of: Micros) -> dict[str, object]:
        names = [f.kind.name for f in self.features if isinstance(f.kind, Context)]
        if not names:
            return {}
        instants, places = np.unique(as_of, return_inverse=True)
        days = [local_day(from_micros(int(t)), self.question) for t in instants]
        shop = contexts(self.engine, self.lake, self.question, {*days}) if self.shop is None else self.shop
        known = [shop.get(day, {}) for day in days]
        columns = {name: np.array([row.get(name) for row in known], np.float64) for name in names}
        return {f"context_{name}": column[places] for name, column in columns.items()}


def clock_columns(as_of: Micros, zone: str) -> dict[str, object]:
    """Hour, weekday and weekend flag of each cut-off (microseconds) on the shop's clock."""
    instants, places = np.unique(as_of, return_inverse=True)
    parts = [clock_parts(from_micros(int(t)), zone) for t in instants]
    return {
        f"clock_{name}": np.array([part[name] for part in parts])[places]
        for name in ("hour", "weekday", "weekend")
    }
