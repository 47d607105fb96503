"""Last part of the batch: rings (see `rings`) into features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ibis
from ibis.expr.types import Column, NumericValue, Table

from retail_core.features.formulas import Algebra
from retail_core.features.kinds import (
    HOUR_US,
    MINUTE_US,
    Additive,
    Cart,
    Clock,
    Context,
    Count,
    Days,
    Derived,
    Feature,
    FirstSeen,
    Gap,
    Kind,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    Total,
    Window,
)
from retail_core.features.partials import Needs
from retail_core.features.question import Question
from retail_core.features.specification import used_by

_SMALLEST = ("first_ts", "nth_first", "carted_first", "newest_", "second_")
_LARGEST = ("last_", "nth_last", "nth_start", "ts_start", "carted_last", "carted_start", "oldest_")
_WHOLE = ("days_", "squares_", "p_", "q_")


class Interpreter:
    """Turns features into aggregate and scalar expressions over the rings."""

    def __init__(self, windows: tuple[Window, ...], needs: Needs) -> None:
        self.windows = windows
        self.needs = needs

    def aggregates(self, table: Table, features: Iterable[Feature]) -> dict[str, Column]:
        """For one row per pid: the windowed features themselves, raw columns for the rest."""
        columns: dict[str, Column] = {}
        for feature in features:
            if isinstance(feature.kind, Additive):
                measure = self._measure(table, feature.kind)
                if measure is not None:
                    columns[feature.name] = self._over(table, measure, feature.window)
        for name in table.columns:
            if name.startswith(_SMALLEST):
                columns[name] = table[name].min()
            elif name.startswith(_LARGEST):
                columns[name] = table[name].max()
            elif name.startswith(_WHOLE):
                columns[name] = table[name].sum()
        return columns

    def _measure(self, table: Table, kind: Additive) -> NumericValue | None:
        """The additive measure behind a kind; None where no such event ever occurs."""
        needs = self.needs
        if isinstance(kind, Sessions):
            return table.sessions
        if isinstance(kind, Count):
            return _column(table, "n", needs.counts, kind.event_type)
        if isinstance(kind, Total):
            return _column(table, "v", needs.totals, kind.event_type)
        if isinstance(kind, Days):
            return _column(table, "same" if kind.weekday else "days", needs.days, kind.event_type)
        changes = _column(table, "d", needs.keys, kind)
        return None if changes is None else changes.fill_null(0)

    def _over(self, table: Table, measure: NumericValue, window: Window | None) -> NumericValue:
        index = self.windows.index(window) if window else len(self.windows) - 1
        if index == len(self.windows) - 1:
            return measure.sum()
        return ibis.ifelse(table.ring <= index, measure, 0).sum()

    def base(self, table: Table, features: Iterable[Feature]) -> dict[str, NumericValue]:
        """Every feature that is not derived, from one row per pid, as float64."""
        return {
            feature.name: self._scalar(table, feature).cast("float64")
            for feature in features
            if not isinstance(feature.kind, Derived)
        }

    def _scalar(self, table: Table, feature: Feature) -> NumericValue:
        kind = feature.kind
        if isinstance(kind, Additive):
            known = feature.name in table.columns
            return table[feature.name].fill_null(0) if known else ibis.literal(0)
        if isinstance(kind, Since):
            last = _column(table, "last", self.needs.since, kind.event_type)
            return ibis.null("float64") if last is None else _hours(table, last)
        if isinstance(kind, Clock):
            return table[f"clock_{kind.part}"]
        if isinstance(kind, Context):
            return table[f"context_{kind.name}"]
        if isinstance(kind, FirstSeen):
            return _hours(table, table.first_ts)
        return self._state(table, kind)

    def _state(self, table: Table, kind: Kind) -> NumericValue:
        if isinstance(kind, Cart):
            return self._cart(table, kind)
        if isinstance(kind, Gap):
            return self._gap(table, kind)
        if isinstance(kind, MeanPrice):
            total = _column(table, "p", self.needs.prices, kind.event_type)
            number = _column(table, "q", self.needs.prices, kind.event_type)
            return ibis.null("float64") if total is None or number is None else _ratio(total, number)
        if isinstance(kind, LastSession):
            return _last_session(table, kind)
        return _ratio(table.category_squares, table.category_events * table.category_events)

    def _cart(self, table: Table, kind: Cart) -> NumericValue:
        if kind.stat in ("count", "value"):
            name = "cart_items" if kind.stat == "count" else "cart_worth"
            return table[name].fill_null(0) if self.needs.carts else ibis.literal(0)
        return _hours(table, table[f"cart_{kind.stat}"]) if self.needs.carts else ibis.null("float64")

    def _gap(self, table: Table, kind: Gap) -> NumericValue:
        if kind.event_type not in self.needs.days:
            return ibis.null("float64")
        i = self.needs.days.index(kind.event_type)
        if kind.stat == "last":
            return table[f"second_{i}"] - table[f"newest_{i}"]
        span, gaps = table[f"oldest_{i}"] - table[f"newest_{i}"], table[f"days_{i}"] - 1
        return (
            _ratio(span, gaps) if kind.stat == "mean" else _ratio(table[f"squares_{i}"] * gaps, span * span)
        )


def _column(table: Table, prefix: str, known: Sequence[object], wanted: object) -> NumericValue | None:
    return table[f"{prefix}_{known.index(wanted)}"] if wanted in known else None


def _ratio(a: NumericValue, b: NumericValue) -> NumericValue:
    return a.cast("float64") / b.cast("float64").nullif(0)


def _hours(table: Table, since: NumericValue) -> NumericValue:
    return (table.as_of - since).cast("float64") / float(HOUR_US)


def _last_session(table: Table, kind: LastSession) -> NumericValue:
    """A session that began before the look-back begins, for this purpose, with its first event in it."""
    if kind.stat == "minutes":
        length = table.last_ts - ibis.coalesce(table.ts_start, table.first_ts)
        return length.cast("float64") / float(MINUTE_US)
    if kind.stat == "carts":
        return (table.carted_last - ibis.coalesce(table.carted_start, table.carted_first)).fill_null(0)
    return (table.nth_last - ibis.coalesce(table.nth_start, table.nth_first) + 1).fill_null(0)


def derived(table: Table, question: Question, features: Iterable[Feature]) -> Table:
    """`table` of base features with the derived ones, in as few steps as their dependence allows."""
    algebra = Algebra(
        lambda name: table[name],
        question.windows,
        div=lambda a, b: a / b.nullif(0),
        where=ibis.ifelse,
        coalesce=ibis.coalesce,
    )
    waiting = [(feature, feature.kind.formula) for feature in features if isinstance(feature.kind, Derived)]
    while waiting:
        known = {*table.columns}
        ready = [
            (feature, formula) for feature, formula in waiting if known.issuperset(used_by(question, feature))
        ]
        waiting = [pair for pair in waiting if pair not in ready]
        table = table.mutate(**{feature.name: formula(algebra) for feature, formula in ready})
    return table
