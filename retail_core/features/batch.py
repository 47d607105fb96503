"""The batch interpreter: features of many (user, cut-off) pairs, in one pass over the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import numpy as np
import pandas as pd
import pyarrow
from ibis.expr.types import Table
from pandera.typing.pandas import DataFrame

from retail_core.features.affinity import category_squares
from retail_core.features.attributes import attributes_at, infer_attributes
from retail_core.features.clock import clock_parts
from retail_core.features.combine import Finish
from retail_core.features.context import contexts
from retail_core.features.definitions import FeatureSet, Question
from retail_core.features.engine import DUCKDB, Engine, EngineOptions, open_engine
from retail_core.features.kinds import Context, Feature
from retail_core.features.partials import Needs, carts, spans, visits
from retail_core.features.positions import grid, place
from retail_core.features.reader import LakeReader, from_micros
from retail_core.features.rings import distinct_rings, open_carts, rings
from retail_core.features.shop_measures import Shop, local_day
from retail_core.schemas import Pairs

__all__ = ["Plan", "compute", "infer_attributes"]

Plan = Literal["auto", "events"]
Micros = np.ndarray[tuple[int], np.dtype[np.int64]]

_NEEDED = [
    *("uid", "ts", "pos", "event_id", "event_type"),
    *("item_id", "category", "order_id", "price_minor", "quantity"),
]


def compute(
    lake: LakeReader,
    pairs: DataFrame[Pairs],
    feature_set: FeatureSet,
    *,
    engine: EngineOptions = DUCKDB,
    plan: Plan = "auto",
    shop: Shop | None = None,
) -> pd.DataFrame:
    """The features of every pair.

    Args:
        lake: where the events are.
        pairs: `user_id`, `as_of` (UTC) and any further columns; a user without events is allowed. With
            a column `policy`, attributes without a date count as known in `first-visit` rows.
        feature_set: which features, of which question.
        engine: what computes; the numbers are the same.
        plan: `events` never groups events by shared intervals; the result is the same.
        shop: context features by local day, null where it lacks the day; None computes them from the lake.

    Returns:
        The pairs' columns and index in their order, then `feature_set.columns` as float64, null = NaN.

    Raises:
        InputError: a feature of the set is not in the list of features.
        DependencyError: Spark is asked for and cannot be started.
    """
    features = feature_set.plan()
    values = attribute_values(lake, pairs, feature_set)
    if len(pairs) and features:
        with open_engine(engine) as running:
            rows = Batch(running, lake, feature_set.question, features, shop).run(pairs, plan)
        if not np.array_equal(rows.column("pid").to_numpy(), np.arange(len(pairs))):
            rows = rows.sort_by("pid")
        values |= {name: rows.column(name).to_numpy() for name in feature_set.names}
    columns = {name: values.get(name, np.empty(0)) for name in feature_set.columns}
    frame = pd.DataFrame(columns, index=pairs.index, copy=False)
    return pd.concat([pairs, frame], axis=1)


def attribute_values(
    lake: LakeReader, pairs: pd.DataFrame, feature_set: FeatureSet
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """One float64 array per attribute column, in the order of `pairs`."""
    if not feature_set.attributes:
        return {}
    return attributes_at(lake, pairs, feature_set.attributes)


class Batch:
    """One run: events -> placed and sequenced -> partial aggregates -> rings -> features."""

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

    def run(self, pairs: pd.DataFrame, plan: Plan) -> pyarrow.Table:
        """One row per pair: `pid` (its place in `pairs`) and every feature; in any order."""
        return self.engine.finish(*self.prepare(pairs, plan))

    def prepare(self, pairs: pd.DataFrame, plan: Plan) -> tuple[pyarrow.Table, list[Table], Finish]:
        """The pairs as numbers, rows about them, and what remains to be done with both."""
        engine = self.engine
        users, keyed = self._keyed(pairs)
        windows = self.question.windows
        cutoffs = keyed.column("as_of").unique().to_pylist()
        events = engine.events(
            self.lake, from_micros(min(cutoffs) - self.question.lookback_us), from_micros(max(cutoffs))
        ).join(engine.keep(engine.table(users)), "user_id")
        cells = grid(cutoffs, windows) if plan == "auto" else None
        events = engine.keep(place(engine, events, cells).select(_NEEDED))
        needs = Needs.of(self.features, self._present(events))
        pair_table = engine.keep(engine.table(keyed))
        work = Finish(self.question, needs, tuple(self.features))
        return keyed, list(self._parts(events, needs, pair_table)), work

    def _keyed(self, pairs: pd.DataFrame) -> tuple[pyarrow.Table, pyarrow.Table]:
        """Users (uid, user_id) and pairs (pid, uid, as_of, edge, clock_*) for the engine."""
        codes, ids = pd.factorize(pairs["user_id"])
        as_of = pairs["as_of"].dt.as_unit("us").astype("int64").to_numpy()
        users = {"uid": np.arange(len(ids)), "user_id": pyarrow.array(ids, pyarrow.string())}
        keyed = {
            "pid": np.arange(len(pairs)),
            "uid": codes,
            "as_of": as_of,
            "edge": as_of - self.question.lookback_us,
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

    def _present(self, events: Table) -> set[str]:
        types = self.engine.fetch(events.select("event_type").distinct())
        return set(cast("list[str]", types.column("event_type").to_pylist()))

    def _parts(self, events: Table, needs: Needs, pairs: Table) -> Iterator[Table]:
        """Small tables of rows about pairs."""
        windows = self.question.windows
        yield rings(self.engine.keep(visits(events, needs)), pairs, windows)
        changes = spans(events, needs)
        if changes is not None:
            yield distinct_rings(changes, pairs, windows)
        if needs.carts:
            yield open_carts(carts(events), pairs)
        if needs.categories:
            yield category_squares(events, pairs, self.question.lookback_us)


def clock_columns(as_of: Micros, zone: str) -> dict[str, object]:
    """Hour, weekday and weekend flag of each cut-off (microseconds) on the shop's clock."""
    instants, places = np.unique(as_of, return_inverse=True)
    parts = [clock_parts(from_micros(int(t)), zone) for t in instants]
    return {
        f"clock_{name}": np.array([part[name] for part in parts])[places]
        for name in ("hour", "weekday", "weekend")
    }
