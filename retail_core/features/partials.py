"""First half of the batch: events once over, into partial aggregates per (user, position).

Small tables come out, all additive over positions:
 - `visits`: one row per (user, position) with counts, sums, first and last times;
 - `spans`: changes of distinct counts, each for the windows that hold a whole span of positions;
 - `carts`: additions to the cart that are still open at `pos` and closed at `closed` (null: never).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import ibis
from ibis.expr.types import BooleanValue, IntegerScalar, IntegerValue, StringValue, Table

from retail_core.features.kinds import (
    CLOSING_ORDER,
    MAX_VALUE_MINOR,
    SESSION_GAP_US,
    Cart,
    Concentration,
    Count,
    Days,
    Distinct,
    Feature,
    Gap,
    LastSession,
    MeanPrice,
    Since,
    Total,
)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Needs:
    """What the wanted features need of the events; positions in the tuples name the columns."""

    counts: tuple[str | None, ...]
    totals: tuple[str, ...]
    keys: tuple[Distinct, ...]
    since: tuple[str | None, ...]
    days: tuple[str | None, ...]
    prices: tuple[str, ...]
    session: bool
    categories: bool
    carts: bool

    @classmethod
    def of(cls, features: Iterable[Feature], present: set[str]) -> Needs:
        """Needs of these features; event types that never occur are left out."""
        kinds = list(dict.fromkeys(feature.kind for feature in features))
        known = {None, *present}
        days = _unique(k.event_type for k in kinds if isinstance(k, Days | Gap) and k.event_type in known)
        counts = (k.event_type for k in kinds if isinstance(k, Count) and k.event_type in known)
        return cls(
            counts=_unique([*counts, *(name for name in days if name is not None)]),
            totals=_unique(k.event_type for k in kinds if isinstance(k, Total) and k.event_type in known),
            keys=tuple(k for k in kinds if isinstance(k, Distinct) and k.event_type in known),
            since=_unique(k.event_type for k in kinds if isinstance(k, Since) and k.event_type in known),
            days=days,
            prices=_unique(k.event_type for k in kinds if isinstance(k, MeanPrice) and k.event_type in known),
            session=any(isinstance(k, LastSession) for k in kinds),
            categories=any(isinstance(k, Concentration) for k in kinds),
            carts="add_to_cart" in present and any(isinstance(k, Cart) for k in kinds),
        )


def _unique(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(values))


def value(events: Table) -> IntegerValue:
    """Value of an event in minor units, as `kinds.event_value` has it."""
    most = (MAX_VALUE_MINOR // ibis.greatest(events.price_minor, 1)).cast("int64")
    pieces = ibis.least(events.quantity.fill_null(1), most)
    return ibis.ifelse(events.price_minor.isnull(), ibis.null("int64"), events.price_minor * pieces)


def visits(events: Table, needs: Needs) -> Table:
    """One row per (uid, pos).

    Columns: n_i (counts), v_i (sums of value), p_i and q_i (sums and counts of prices), last_i (last
    time), first_ts, starts (sessions), continues (1 where the first event here belongs to a session begun
    at `prev`), prev (the user's position before this one), here_i and before_i (this position, where it
    has an event of the i-th type of `needs.days`, and the one before it that has one), and those of
    `_session_columns`.
    """
    events = _sequenced(events, needs)
    head = events.prev_pos.isnull() | (events.prev_pos < events.pos)
    start = events.prev_ts.isnull() | (events.ts - events.prev_ts >= SESSION_GAP_US)
    kind = events.event_type
    columns = {
        "first_ts": events.ts.min(),
        "starts": events.count(where=start),
        "continues": events.count(where=head & ~start),
        "prev": events.prev_pos.min(where=events.prev_pos < events.pos),
    }
    for i, name in enumerate(needs.counts):
        columns[f"n_{i}"] = events.count() if name is None else events.count(where=kind == name)
    for i, name in enumerate(needs.totals):
        columns[f"v_{i}"] = events.value.sum(where=kind == name).fill_null(0)
    for i, name in enumerate(needs.prices):
        columns[f"p_{i}"] = events.price_minor.sum(where=kind == name).fill_null(0)
        columns[f"q_{i}"] = events.price_minor.count(where=kind == name)
    for i, name in enumerate(needs.since):
        columns[f"last_{i}"] = events.ts.max() if name is None else events.ts.max(where=kind == name)
    if needs.session:
        columns |= _session_columns(events, start)
    return _chained(events.group_by(["uid", "pos"]).agg(**columns), needs)


def _sequenced(events: Table, needs: Needs) -> Table:
    """Events with the time and position of the user's event before them, and running counts.

    `nth` and `carted` count the user's events and additions to the cart up to and with this one. Among
    events of one instant their order is arbitrary; what is made of them does not depend on it.
    """
    narrow = events.select("uid", "ts", "pos", "event_type", "price_minor", value=value(events))
    before = ibis.window(group_by="uid", order_by="ts")
    columns = {"prev_ts": narrow.ts.lag().over(before), "prev_pos": narrow.pos.lag().over(before)}
    if needs.session:
        so_far = ibis.window(group_by="uid", order_by="ts", rows=(None, 0))
        narrow = narrow.mutate(cart=(narrow.event_type == "add_to_cart").cast("int64"))
        columns |= {"nth": ibis.row_number().over(before), "carted": narrow.cart.sum().over(so_far)}
    return narrow.mutate(**columns)


def _session_columns(events: Table, start: BooleanValue) -> dict[str, IntegerScalar]:
    """What tells the last session of any stretch of positions: ever growing counts, as extremes."""
    carted_before = events.carted - events.cart
    return {
        "last_ts": events.ts.max(),
        "nth_first": events.nth.min(),
        "nth_last": events.nth.max(),
        "nth_start": events.nth.max(where=start),
        "ts_start": events.ts.max(where=start),
        "carted_first": carted_before.min(),
        "carted_last": events.carted.max(),
        "carted_start": carted_before.max(where=start),
    }


def _chained(visits: Table, needs: Needs) -> Table:
    before = ibis.window(group_by="uid", order_by="pos", rows=(None, -1))
    for i, name in enumerate(needs.days):
        if name is None:
            visits = visits.mutate(**{f"here_{i}": visits.pos, f"before_{i}": visits.prev})
            continue
        seen = visits[f"n_{needs.counts.index(name)}"] > 0
        here = ibis.ifelse(seen, visits.pos, ibis.null("int64"))
        visits = visits.mutate(**{f"here_{i}": here, f"before_{i}": here.max().over(before)})
    return visits


def spans(events: Table, needs: Needs) -> Table | None:
    """One row per (uid, lo, pos): what d_i to add to the distinct count i of windows holding both.

    A key seen at `pos` adds 1 there (lo = pos); if it was seen before, at `prev`, it takes 1 away from
    windows that hold `prev` too (lo = prev). Sums of that are distinct counts, for every window.
    """
    parts = [
        part for i, spec in enumerate(needs.keys) for part in _key_spans(events, spec, i, len(needs.keys))
    ]
    if not parts:
        return None
    every = ibis.union(*parts)
    sums = {name: every[name].sum() for name in every.columns if name.startswith("d_")}
    return every.group_by(["uid", "lo", "pos"]).agg(**sums)


def _key_spans(events: Table, spec: Distinct, index: int, kinds: int) -> tuple[Table, Table]:
    rows = events if spec.event_type is None else events.filter(events.event_type == spec.event_type)
    keys = rows.select("uid", "pos", key=_key(rows, spec))
    keys = keys.filter(keys.key.notnull()).distinct()
    keys = keys.mutate(prev=keys.pos.lag().over(ibis.window(group_by=["uid", "key"], order_by="pos")))

    def change(by: int) -> dict[str, IntegerScalar]:
        return {f"d_{j}": ibis.literal(by if index == j else 0, "int64") for j in range(kinds)}

    again = keys.filter(keys.prev.notnull())
    return keys.select("uid", "pos", lo="pos", **change(1)), again.select(
        "uid", "pos", lo="prev", **change(-1)
    )


def _key(events: Table, spec: Distinct) -> StringValue:
    if spec.key == "item":
        return events.item_id
    if spec.key == "category":
        return events.category
    return ibis.coalesce(events.order_id, events.event_id)


def carts(events: Table) -> Table:
    """One row per (uid, pos, closed): additions to the cart, unless closed within their position."""
    acts = events.filter(events.event_type.isin(list(CLOSING_ORDER)))
    acts = acts.mutate(
        value=value(acts),
        rank=acts.event_type.cases(*CLOSING_ORDER.items(), else_=3).cast("int8"),
        clears=ibis.ifelse(
            (acts.event_type == "purchase") & acts.item_id.isnull(), acts.pos, ibis.null("int64")
        ),
    )
    in_order = [acts.ts, acts.rank, acts.event_id]
    later = ibis.window(group_by="uid", order_by=[c.desc() for c in in_order], preceding=None, following=0)
    acts = acts.mutate(
        next_same=acts.pos.lead().over(ibis.window(group_by=["uid", "item_id"], order_by=in_order)),
        next_clear=acts.clears.min().over(later),
    )
    acts = acts.mutate(closed=ibis.least(acts.next_same, acts.next_clear))
    adds = acts.filter(acts.event_type == "add_to_cart", acts.closed.isnull() | (acts.closed > acts.pos))
    return adds.group_by(["uid", "pos", "closed"]).agg(
        items=adds.count(),
        worth=adds.value.sum().fill_null(0),
        oldest=adds.ts.min(),
        newest=adds.ts.max(),
    )
