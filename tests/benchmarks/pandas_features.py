"""The list of features in plain pandas, as an analyst would write it: the baseline of `bench_features`.

The log is read once, sorted once, and its texts become categories; then each cut-off is one pass: its
look-back is filtered, and each kind is a group-by per window. Event types share one group-by where that
is natural. Formulas are the list's own, context features are handed in, user attributes are not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

import numpy as np
import pandas as pd

from retail_core.features.cutoff_context import ContextByDay, clock_features, local_day
from retail_core.features.engine import LakeReader
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
    State,
    Total,
    Windowed,
)
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import DAY_US, HOUR_US, MINUTE_US, SESSION_GAP_US, FeatureWindow
from retail_core.times import to_micros

_COLUMNS = [
    *("event_id", "user_id", "event_time", "event_type"),
    *("item_id", "category", "order_id", "price_minor", "quantity"),
]


def pandas_features(
    lake: LakeReader, pairs: pd.DataFrame, feature_set: FeatureSet, shop: ContextByDay
) -> pd.DataFrame:
    """The features of every pair, float64, null = NaN; one row per pair, with the pairs' index.

    Args:
        lake: where the events are; each event_id once.
        pairs: `user_id`, `as_of` (UTC).
        feature_set: which features, of which question, without attributes.
        shop: context features by local day.
    """
    question, plan = feature_set.task, feature_set.plan()
    first, last = pairs["as_of"].min() - question.lookback, pairs["as_of"].max()
    events, users = read(lake, first.to_pydatetime(), last.to_pydatetime())
    found = []
    for as_of, rows in pairs.groupby("as_of"):
        past = Past(events, users.get_indexer(rows["user_id"]), as_of.to_pydatetime(), question)
        found.append(past.features(plan, shop).set_index(rows.index))
    return pd.concat(found).loc[pairs.index, list(feature_set.names)]


def read(lake: LakeReader, start: datetime, end: datetime) -> tuple[pd.DataFrame, pd.Index]:
    """Events by user and time, with `user` the place of the user's id in the index that goes along."""
    files = [pd.read_parquet(file, columns=_COLUMNS) for file in lake.files(start, end)]
    log = pd.concat(files, ignore_index=True)
    log["ts"] = log["event_time"].dt.as_unit("us").astype("int64")
    log["user"], users = pd.factorize(log["user_id"])
    log["rank"] = log["event_type"].map(CART_EVENT_ORDER).fillna(len(CART_EVENT_ORDER))
    log = log.sort_values(["user", "ts", "rank", "event_id"], ignore_index=True)
    most = MAX_VALUE_MINOR // log["price_minor"].clip(lower=1)
    log["value"] = (log["price_minor"] * log["quantity"].fillna(1).clip(upper=most)).fillna(0)
    # The list asks for orders of purchases only.
    bought = log["event_type"] == "purchase"
    log["order"] = log["order_id"].fillna(log["event_id"]).where(bought)
    log = log.rename(columns={"item_id": "item", "price_minor": "price"})
    texts = ["event_type", "item", "category", "order"]
    log[texts] = log[texts].astype("category")
    return log[["user", "ts", *texts, "price", "value"]], pd.Index(users)


class Past:
    """The look-back of one cut-off, for the users asked about."""

    def __init__(
        self, events: pd.DataFrame, users: np.ndarray, as_of: datetime, question: PredictionTask
    ) -> None:
        self.users = users
        self.as_of = as_of
        self.question = question
        self.now = now = to_micros(as_of)
        recent = events["ts"].between(now - question.lookback_us, now, inclusive="left")
        self.events = events[recent & events["user"].isin(users)].copy()
        self.events["block"] = (now - 1 - self.events["ts"]) // DAY_US
        pause = self.events.groupby("user")["ts"].diff()
        self.events["starts"] = pause.isna() | (pause >= SESSION_GAP_US)
        self.inside = {w: self.events[self.events["ts"] >= now - w.micros] for w in question.windows}
        self.counts = {
            w: inside.groupby(["user", "event_type"], observed=True).size().unstack()
            for w, inside in self.inside.items()
        }

    def features(self, plan: Sequence[Feature], shop: ContextByDay) -> pd.DataFrame:
        """One row per user, in the order asked."""
        found: dict[str, pd.Series] = {}
        algebra = FormulaAlgebra(
            found.__getitem__,
            self.question.windows,
            div=lambda a, b: a / b.where(b != 0),
            where=lambda condition, a, b: pd.Series(np.where(condition, a, b), condition.index),
            coalesce=lambda a, b: a.fillna(b),
        )
        context = shop.get(local_day(self.as_of, self.question), {})
        clock = clock_features(self.as_of, self.question.timezone)
        for feature in plan:
            match feature.kind:
                case Derived(formula):
                    found[feature.name] = formula(algebra)
                case Context(name):
                    found[feature.name] = pd.Series(context.get(name, np.nan), self.users)
                case Clock(part):
                    found[feature.name] = pd.Series(clock[part], self.users)
                case kind if isinstance(kind, Windowed):
                    found[feature.name] = self.additive(kind, feature.window).reindex(self.users).fillna(0)
                case kind:
                    found[feature.name] = self.state(kind).reindex(self.users)
        return pd.DataFrame({name: column.to_numpy(float) for name, column in found.items()})

    def additive(self, kind: Windowed, window: FeatureWindow) -> pd.Series:
        """One value per user with such an event in the window."""
        events = self.inside[window]
        match kind:
            case Count(None):
                return events.groupby("user").size()
            case Count(name):
                return self.counts[window].get(name, pd.Series(dtype=float))
            case Sessions():
                return events.groupby("user")["starts"].sum()
            case Total(name):
                return of_type(events, name).groupby("user")["value"].sum()
            case Distinct(key, name):
                return of_type(events, name).groupby("user")[key].nunique()
            case Days(name, weekday):
                events = of_type(events, name)
                events = events[(events["block"] + 1) % 7 == 0] if weekday else events
                return events.groupby("user")["block"].nunique()

    def state(self, kind: State) -> pd.Series:
        """One value per user, from the whole look-back."""
        match kind:
            case Since(None):
                return self.hours(self.events.groupby("user")["ts"].max())
            case Since(name):
                return self.hours(self.last_of_type.get(name, pd.Series(dtype=float)))
            case FirstSeen():
                return self.hours(self.events.groupby("user")["ts"].min())
            case MeanPrice(name):
                return of_type(self.events, name).groupby("user")["price"].mean()
            case Concentration():
                counts = self.events.groupby(["user", "category"], observed=True).size()
                return (counts**2).groupby("user").sum() / counts.groupby("user").sum() ** 2
            case Gap():
                return self.gap(kind)
            case LastSession():
                return self.last_session(kind)
            case Cart():
                return self.cart(kind)

    @cached_property
    def last_of_type(self) -> pd.DataFrame:
        """Time of each user's last event of each type."""
        return self.events.groupby(["user", "event_type"], observed=True)["ts"].max().unstack()

    def hours(self, moments: pd.Series) -> pd.Series:
        """Hours from these instants to the cut-off."""
        return (self.now - moments) / HOUR_US

    def gap(self, kind: Gap) -> pd.Series:
        """Distances of neighbouring active days, newest first."""
        days = of_type(self.events, kind.event_type)[["user", "block"]].drop_duplicates()
        days = days.sort_values(["user", "block"])
        days["gap"] = days.groupby("user")["block"].diff()
        gaps = days.dropna().groupby("user")["gap"]
        if kind.stat == "mean":
            return gaps.mean()
        if kind.stat == "last":
            return gaps.first()
        return (days["gap"] ** 2).groupby(days["user"]).mean() / gaps.mean() ** 2

    @cached_property
    def open_sessions(self) -> pd.DataFrame:
        """Events of each user's last session."""
        number = self.events["starts"].cumsum()
        return self.events[number == number.groupby(self.events["user"]).transform("max")]

    def last_session(self, kind: LastSession) -> pd.Series:
        """Of the session of the last event."""
        session = self.open_sessions.groupby("user")
        if kind.stat == "minutes":
            return (session["ts"].max() - session["ts"].min()) / MINUTE_US
        if kind.stat == "events":
            return session.size().reindex(self.users).fillna(0)
        carted = self.open_sessions["event_type"] == "add_to_cart"
        return carted.groupby(self.open_sessions["user"]).sum().reindex(self.users).fillna(0)

    @cached_property
    def open_carts(self) -> pd.DataFrame:
        """Additions that are the last act on their item and follow every purchase that names no item."""
        acts = self.events[self.events["event_type"].isin(CART_EVENT_ORDER)].reset_index(drop=True)
        clears = acts[(acts["event_type"] == "purchase") & acts["item"].isna()]
        cleared = acts["user"].map(clears.index.to_series().groupby(clears["user"]).max())
        last = ~acts.duplicated(["user", "item"], keep="last") & ~(acts.index < cleared)
        return acts[last & (acts["event_type"] == "add_to_cart")]

    def cart(self, kind: Cart) -> pd.Series:
        """Of the open cart."""
        carts = self.open_carts.groupby("user")
        if kind.stat == "count":
            return carts.size().reindex(self.users).fillna(0)
        if kind.stat == "value":
            return carts["value"].sum().reindex(self.users).fillna(0)
        return self.hours(carts["ts"].min() if kind.stat == "oldest" else carts["ts"].max())


def of_type(events: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """Events of one type; None: of any."""
    return events if name is None else events[events["event_type"] == name]
