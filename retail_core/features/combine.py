"""Second half of the batch: partial aggregates and pairs into features.

Each partial aggregate that a pair's look-back holds falls into one ring: (0, 1 h], (1 h, 6 h], ...
before the cut-off. Sums per (pair, ring) need no condition per window; windows are then sums of
rings over at most a handful of rows per pair.
"""

from __future__ import annotations

from collections.abc import Iterable

import ibis
from ibis.expr.types import Column, IntegerValue, NumericValue, Table

from retail_core.features.definitions import used_by
from retail_core.features.formulas import Algebra
from retail_core.features.kinds import (
    DAY_US,
    HOUR_US,
    Cart,
    Clock,
    Count,
    Derived,
    Distinct,
    Feature,
    FirstSeen,
    Gap,
    Sessions,
    Since,
    Total,
    Window,
)
from retail_core.features.partials import Needs
from retail_core.features.positions import ring
from retail_core.features.question import Question

_DAY = "days"
_SESSIONS = "sessions"


def rings(visits: Table, spans: Table | None, pairs: Table, windows: tuple[Window, ...]) -> Table:
    """One row per (pid, ring): everything additive, summed; times and day blocks as extremes."""
    seen = _held(visits, pairs, windows).mutate(inside=lambda t: t.prev >= t.edge)
    seen = seen.mutate(
        block=_block(seen.as_of, seen.pos), block_before=_block(seen.as_of, seen.prev), ring=seen.ring
    )
    apart = seen.inside & (seen.block_before != seen.block)
    columns = {
        _DAY: seen.count(where=apart | seen.inside.isnull() | ~seen.inside),
        _SESSIONS: (seen.starts + ibis.ifelse(seen.prev < seen.edge, seen.continues, 0)).sum(),
        "first_ts": seen.first_ts.min(),
        "block_new": seen.block.min(),
        "block_old": seen.block.max(),
        "block_second": seen.block_before.min(where=apart),
    }
    for name in visits.columns:
        if name.startswith(("n_", "v_")):
            columns[name] = seen[name].sum()
        elif name.startswith("last_"):
            columns[name] = seen[name].max()
    summed = seen.group_by(["pid", "ring"]).agg(**columns)
    if spans is None:
        return summed
    changes = _held(spans, pairs, windows, start="lo")
    sums = {name: changes[name].sum() for name in spans.columns if name.startswith("d_")}
    return summed.left_join(changes.group_by(["pid", "ring"]).agg(**sums), ["pid", "ring"])


def _held(partials: Table, pairs: Table, windows: tuple[Window, ...], start: str = "pos") -> Table:
    """Partials joined with the pairs whose look-back holds them, from `start` to `pos`."""
    joined = partials.join(pairs, "uid")
    joined = joined.filter(joined[start] >= joined.edge, joined.pos < joined.as_of)
    return joined.mutate(ring=ring(joined.as_of - joined[start], windows))


def _block(as_of: IntegerValue, position: IntegerValue) -> IntegerValue:
    """Index of the 24-hour block before the cut-off: 0 for [as_of - 24 h, as_of)."""
    return ((as_of - position - 1) // DAY_US).cast("int64")


def open_carts(carts: Table, pairs: Table) -> Table:
    """One row per pid with something open at its cut-off."""
    held = carts.join(pairs, "uid")
    held = held.filter(
        held.pos >= held.edge, held.pos < held.as_of, held.closed.isnull() | (held.closed >= held.as_of)
    )
    return held.group_by("pid").agg(
        cart_items=held["items"].sum(),
        cart_worth=held.worth.sum(),
        cart_oldest=held.oldest.min(),
        cart_newest=held.newest.max(),
    )


class Interpreter:
    """Turns features into aggregate and scalar expressions over the rings."""

    def __init__(self, windows: tuple[Window, ...], needs: Needs) -> None:
        self.windows = windows
        self.needs = needs

    def aggregates(self, table: Table, features: Iterable[Feature]) -> dict[str, Column]:
        """For one row per pid: the windowed features themselves, raw times and blocks for the rest."""
        columns: dict[str, Column] = {}
        for feature in features:
            kind = feature.kind
            if isinstance(kind, Count | Total | Distinct | Sessions):
                measure = self._measure(table, kind)
                if measure is not None:
                    columns[feature.name] = self._over(table, measure, feature.window)
            elif isinstance(kind, Since) and kind.event_type in self.needs.since:
                columns[feature.name] = table[f"last_{self.needs.since.index(kind.event_type)}"].max()
        return columns | {
            "first_ts": table.first_ts.min(),
            "block_new": table.block_new.min(),
            "block_old": table.block_old.max(),
            "block_second": table.block_second.min(),
            "blocks": table[_DAY].sum(),
        }

    def _measure(self, table: Table, kind: Count | Total | Distinct | Sessions) -> NumericValue | None:
        """The additive measure behind a kind; None where no such event ever occurs."""
        needs = self.needs
        if isinstance(kind, Sessions):
            return table[_SESSIONS]
        if isinstance(kind, Count):
            return (
                table[f"n_{needs.counts.index(kind.event_type)}"] if kind.event_type in needs.counts else None
            )
        if isinstance(kind, Total):
            return (
                table[f"v_{needs.totals.index(kind.event_type)}"] if kind.event_type in needs.totals else None
            )
        if kind.key == "day":
            return table[_DAY]
        if kind not in needs.keys:
            return None
        return table[f"d_{needs.keys.index(kind)}"].fill_null(0)

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
        if isinstance(kind, Clock):
            return table[f"clock_{kind.part}"]
        if isinstance(kind, Cart):
            return self._cart(table, kind)
        if isinstance(kind, Gap):
            return _gap(table, kind)
        if isinstance(kind, FirstSeen):
            return _hours(table, table.first_ts)
        absent = feature.name not in table.columns
        if isinstance(kind, Since):
            return ibis.null("float64") if absent else _hours(table, table[feature.name])
        return ibis.literal(0) if absent else table[feature.name].fill_null(0)

    def _cart(self, table: Table, kind: Cart) -> NumericValue:
        if kind.stat in ("count", "value"):
            name = "cart_items" if kind.stat == "count" else "cart_worth"
            return table[name].fill_null(0) if self.needs.carts else ibis.literal(0)
        return _hours(table, table[f"cart_{kind.stat}"]) if self.needs.carts else ibis.null("float64")


def _hours(table: Table, since: IntegerValue) -> NumericValue:
    return (table.as_of - since).cast("float64") / float(HOUR_US)


def _gap(table: Table, kind: Gap) -> NumericValue:
    if kind.stat == "last":
        return table.block_second - table.block_new
    span = (table.block_old - table.block_new).cast("float64")
    return span / (table.blocks - 1).cast("float64").nullif(0)


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
