"""Features in plain pandas, as an analyst would write them: the baseline of `bench_features`.

The log is read once, sorted once, and its texts become categories; then each cut-off is one pass: its
look-back is filtered, and each kind is a group-by per window. Everything is derived from the definitions:
names, kinds, windows, keys and formulas. A feature of a kind without a pandas form, and a formula over one,
is left out of `covered_features`, so that a new feature, key or kind needs no change here. Context features
are passed in, user attributes are not covered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from retail_core.features.cutoff_context import ContextByDay, clock_features, local_day
from retail_core.features.engine import LakeReader
from retail_core.features.event_columns import EVENT_KEYS
from retail_core.features.feature_set import FeatureSet
from retail_core.features.formula_algebra import FormulaAlgebra
from retail_core.features.kinds import (
    CART_EVENT_ORDER,
    MAX_VALUE_MINOR,
    Cart,
    Clock,
    Concentration,
    Context,
    Count,
    Days,
    Derived,
    Distinct,
    Feature,
    FirstSeen,
    Gap,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    Total,
)
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import DAY_US, HOUR_US, MINUTE_US, SESSION_GAP_US, FeatureWindow
from retail_core.times import to_micros


def covered_features(feature_set: FeatureSet) -> FeatureSet:
    """The features of the set that have a pandas form, formulas over them included."""
    covered = {name for name in feature_set.names if _has_pandas_form(FeatureSet(feature_set.task, (name,)))}
    names = tuple(name for name in feature_set.names if name in covered)
    return replace(feature_set, names=names, attributes=())


def _has_pandas_form(feature_set: FeatureSet) -> bool:
    kinds = (feature.kind for feature in feature_set.plan())
    return all(isinstance(kind, Derived) or type(kind) in _PANDAS_FORMS for kind in kinds)


def pandas_features(
    lake: LakeReader, pairs: pd.DataFrame, feature_set: FeatureSet, context: ContextByDay
) -> pd.DataFrame:
    """The features of every pair, float64, null = NaN; one row per pair, with the pairs' index.

    Args:
        lake: where the events are; each event_id once.
        pairs: `user_id`, `as_of` (UTC).
        feature_set: a set of `covered_features`.
        context: context features by local day.
    """
    task, plan = feature_set.task, feature_set.plan()
    first, last = pairs["as_of"].min() - task.lookback, pairs["as_of"].max()
    events, users = read_events(lake, (first.to_pydatetime(), last.to_pydatetime()), plan)
    tables = []
    for as_of, rows in pairs.groupby("as_of"):
        lookback = Lookback(events, users.get_indexer(rows["user_id"]), as_of.to_pydatetime(), task)
        tables.append(lookback.features(plan, context).set_index(rows.index))
    return pd.concat(tables).loc[pairs.index, list(feature_set.names)]


def read_events(
    lake: LakeReader, interval: tuple[datetime, datetime], plan: Sequence[Feature]
) -> tuple[pd.DataFrame, pd.Index]:
    """Events by user and time, with `user` as a position in the index of user ids that is returned too."""
    keys = {"item", *(feature.kind.key for feature in plan if hasattr(feature.kind, "key"))}
    sources = {EVENT_KEYS[key].column for key in keys}
    columns = ["event_id", "user_id", "event_time", "event_type", "price_minor", "quantity", *sorted(sources)]
    files = [pd.read_parquet(file, columns=columns) for file in lake.files(*interval)]
    log = pd.concat(files, ignore_index=True)
    log["ts"] = log["event_time"].dt.as_unit("us").astype("int64")
    log["user"], users = pd.factorize(log["user_id"])
    log["rank"] = log["event_type"].map(CART_EVENT_ORDER).fillna(len(CART_EVENT_ORDER))
    log = log.sort_values(["user", "ts", "rank", "event_id"], ignore_index=True)
    max_quantity = MAX_VALUE_MINOR // log["price_minor"].clip(lower=1)
    log["value"] = (log["price_minor"] * log["quantity"].fillna(1).clip(upper=max_quantity)).fillna(0)
    texts = pd.DataFrame({"event_type": log["event_type"], **{key: _key(log, key, plan) for key in keys}})
    texts = texts.astype("category")
    numbers = log[["user", "ts", "value"]].assign(price=log["price_minor"])
    return pd.concat([numbers, texts], axis=1), pd.Index(users)


def _key(log: pd.DataFrame, name: str, plan: Sequence[Feature]) -> pd.Series:
    """A key column; one with a fallback only for events of the types whose key is counted."""
    key = EVENT_KEYS[name]
    if key.fallback is None:
        return log[key.column]
    types = {getattr(f.kind, "event_type", None) for f in plan if getattr(f.kind, "key", None) == name}
    filled = log[key.column].fillna(log[key.fallback])
    return filled if None in types else filled.where(log["event_type"].isin(types))


class Lookback:
    """The events of the look-back of one cut-off, of the given users."""

    def __init__(
        self, events: pd.DataFrame, users: np.ndarray, as_of: datetime, task: PredictionTask
    ) -> None:
        self.users = users
        self.as_of = as_of
        self.task = task
        self.cutoff = cutoff = to_micros(as_of)
        recent = events["ts"].between(cutoff - task.lookback_us, cutoff, inclusive="left")
        self.events = events[recent & events["user"].isin(users)].copy()
        self.events["block"] = (cutoff - 1 - self.events["ts"]) // DAY_US
        pause = self.events.groupby("user")["ts"].diff()
        self.events["starts"] = pause.isna() | (pause >= SESSION_GAP_US)
        self.within = {w: self.events[self.events["ts"] >= cutoff - w.micros] for w in task.windows}
        self.type_counts = {
            w: within.groupby(["user", "event_type"], observed=True).size().unstack()
            for w, within in self.within.items()
        }

    def features(self, plan: Sequence[Feature], context: ContextByDay) -> pd.DataFrame:
        """One row per user, in the order of the users."""
        columns: dict[str, pd.Series] = {}
        algebra = FormulaAlgebra(
            columns.__getitem__,
            self.task.windows,
            div=lambda a, b: a / b.where(b != 0),
            where=lambda condition, a, b: pd.Series(np.where(condition, a, b), condition.index),
            coalesce=lambda a, b: a.fillna(b),
        )
        self.context = context.get(local_day(self.as_of, self.task), {})
        for feature in plan:
            if isinstance(feature.kind, Derived):
                columns[feature.name] = feature.kind.formula(algebra)
                continue
            compute, fill = _PANDAS_FORMS[type(feature.kind)]
            column = compute(self, feature.kind, feature.window).reindex(self.users)
            counted = fill or getattr(feature.kind, "stat", None) in {"count", "value", "events", "carts"}
            columns[feature.name] = column.fillna(0) if counted else column
        return pd.DataFrame({name: column.to_numpy(float) for name, column in columns.items()})

    def constant(self, value: float | None) -> pd.Series:
        """The same value for every user."""
        return pd.Series(np.nan if value is None else value, pd.unique(self.users))

    def hours_since(self, times: pd.Series) -> pd.Series:
        """Hours from these times to the cut-off."""
        return (self.cutoff - times) / HOUR_US

    @cached_property
    def last_of_type(self) -> pd.DataFrame:
        """Time of each user's last event of each type."""
        return self.events.groupby(["user", "event_type"], observed=True)["ts"].max().unstack()

    @cached_property
    def last_session(self) -> pd.DataFrame:
        """Events of each user's last session."""
        number = self.events["starts"].cumsum()
        return self.events[number == number.groupby(self.events["user"]).transform("max")]

    @cached_property
    def open_carts(self) -> pd.DataFrame:
        """Additions that are the last cart event of their item, after every purchase that names no item."""
        rows = self.events[self.events["event_type"].isin(CART_EVENT_ORDER)].reset_index(drop=True)
        clears = rows[(rows["event_type"] == "purchase") & rows["item"].isna()]
        cleared = rows["user"].map(clears.index.to_series().groupby(clears["user"]).max())
        last = ~rows.duplicated(["user", "item"], keep="last") & ~(rows.index < cleared)
        return rows[last & (rows["event_type"] == "add_to_cart")]


def of_type(events: pd.DataFrame, event_type: str | None) -> pd.DataFrame:
    """Events of one type; None: of any."""
    return events if event_type is None else events[events["event_type"] == event_type]


def _count(lookback: Lookback, kind: Count, window: FeatureWindow) -> pd.Series:
    if kind.event_type is None:
        return lookback.within[window].groupby("user").size()
    return lookback.type_counts[window].get(kind.event_type, pd.Series(dtype=float))


def _total(lookback: Lookback, kind: Total, window: FeatureWindow) -> pd.Series:
    return of_type(lookback.within[window], kind.event_type).groupby("user")["value"].sum()


def _distinct(lookback: Lookback, kind: Distinct, window: FeatureWindow) -> pd.Series:
    return of_type(lookback.within[window], kind.event_type).groupby("user")[kind.key].nunique()


def _sessions(lookback: Lookback, kind: Sessions, window: FeatureWindow) -> pd.Series:
    return lookback.within[window].groupby("user")["starts"].sum()


def _days(lookback: Lookback, kind: Days, window: FeatureWindow) -> pd.Series:
    events = of_type(lookback.within[window], kind.event_type)
    events = events[(events["block"] + 1) % 7 == 0] if kind.weekday else events
    return events.groupby("user")["block"].nunique()


def _since(lookback: Lookback, kind: Since, _: None) -> pd.Series:
    if kind.event_type is None:
        return lookback.hours_since(lookback.events.groupby("user")["ts"].max())
    return lookback.hours_since(lookback.last_of_type.get(kind.event_type, pd.Series(dtype=float)))


def _first_seen(lookback: Lookback, _: FirstSeen, __: None) -> pd.Series:
    return lookback.hours_since(lookback.events.groupby("user")["ts"].min())


def _mean_price(lookback: Lookback, kind: MeanPrice, _: None) -> pd.Series:
    return of_type(lookback.events, kind.event_type).groupby("user")["price"].mean()


def _concentration(lookback: Lookback, kind: Concentration, _: None) -> pd.Series:
    counts = lookback.events.groupby(["user", kind.key], observed=True).size()
    return (counts**2).groupby("user").sum() / counts.groupby("user").sum() ** 2


def _gap(lookback: Lookback, kind: Gap, _: None) -> pd.Series:
    days = of_type(lookback.events, kind.event_type)[["user", "block"]].drop_duplicates()
    days = days.sort_values(["user", "block"])
    days["gap"] = days.groupby("user")["block"].diff()
    gaps = days.dropna().groupby("user")["gap"]
    if kind.stat == "mean":
        return gaps.mean()
    if kind.stat == "last":
        return gaps.first()
    return (days["gap"] ** 2).groupby(days["user"]).mean() / gaps.mean() ** 2


def _last_session(lookback: Lookback, kind: LastSession, _: None) -> pd.Series:
    session = lookback.last_session.groupby("user")
    if kind.stat == "minutes":
        return (session["ts"].max() - session["ts"].min()) / MINUTE_US
    if kind.stat == "events":
        return session.size()
    carted = lookback.last_session["event_type"] == "add_to_cart"
    return carted.groupby(lookback.last_session["user"]).sum()


def _cart(lookback: Lookback, kind: Cart, _: None) -> pd.Series:
    carts = lookback.open_carts.groupby("user")
    if kind.stat == "count":
        return carts.size()
    if kind.stat == "value":
        return carts["value"].sum()
    return lookback.hours_since(carts["ts"].min() if kind.stat == "oldest" else carts["ts"].max())


def _clock(lookback: Lookback, kind: Clock, _: None) -> pd.Series:
    return lookback.constant(clock_features(lookback.as_of, lookback.task.timezone)[kind.part])


def _context(lookback: Lookback, kind: Context, _: None) -> pd.Series:
    return lookback.constant(lookback.context.get(kind.name))


_PANDAS_FORMS: dict[type, tuple[Callable[[Lookback, Any, Any], pd.Series], bool]] = {
    Count: (_count, True),
    Total: (_total, True),
    Distinct: (_distinct, True),
    Sessions: (_sessions, True),
    Days: (_days, True),
    Since: (_since, False),
    FirstSeen: (_first_seen, False),
    MeanPrice: (_mean_price, False),
    Concentration: (_concentration, False),
    Gap: (_gap, False),
    LastSession: (_last_session, False),
    Cart: (_cart, False),
    Clock: (_clock, False),
    Context: (_context, False),
}
"""For each kind the column by user, and whether a user without events has 0 instead of null."""
