"""Partial aggregates joined with the pairs that hold them, summed per pair and ring.

Each partial aggregate that a pair's look-back holds falls into one ring: (0, 1 h], (1 h, 6 h], ...
before the cut-off. Sums per (pair, ring) need no condition per window; windows are then sums of
rings over at most a handful of rows per pair.
"""

from __future__ import annotations

import ibis
from ibis.expr.types import IntegerScalar, IntegerValue, Table

from retail_core.features.kinds import DAY_US, Window
from retail_core.features.positions import ring

_WEEK = 7
_LEAST = ("first_ts", "nth_first", "carted_first")
_GREATEST = ("last_", "nth_last", "nth_start", "ts_start", "carted_last", "carted_start")
_SUMMED = ("n_", "v_", "p_", "q_")


def rings(visits: Table, pairs: Table, windows: tuple[Window, ...]) -> Table:
    """One row per (pid, ring): everything additive, summed; times, running counts and blocks as extremes."""
    seen = _held(visits, pairs, windows)
    continued = ibis.ifelse(seen.prev < seen.edge, seen.continues, 0)
    columns = {"sessions": (seen.starts + continued).sum()}
    for name in visits.columns:
        if name.startswith(_SUMMED):
            columns[name] = seen[name].sum()
        elif name in _LEAST:
            columns[name] = seen[name].min()
        elif name.startswith(_GREATEST):
            columns[name] = seen[name].max()
        elif name.startswith("here_"):
            columns |= _day_columns(seen, name.removeprefix("here_"))
    return seen.group_by(["pid", "ring"]).agg(**columns)


def distinct_rings(spans: Table, pairs: Table, windows: tuple[Window, ...]) -> Table:
    """One row per (pid, ring): the changes of the distinct counts, summed."""
    changes = _held(spans, pairs, windows, start="lo")
    sums = {name: changes[name].sum() for name in spans.columns if name.startswith("d_")}
    return changes.group_by(["pid", "ring"]).agg(**sums)


def _day_columns(seen: Table, i: str) -> dict[str, IntegerScalar]:
    """Active days of the i-th chain: counted where a day's first event stands, gaps where one ends."""
    here, before = seen[f"here_{i}"], seen[f"before_{i}"]
    block, earlier = _block(seen.as_of, here), _block(seen.as_of, before)
    inside = before >= seen.edge
    apart = here.notnull() & inside & (earlier != block)
    opens = here.notnull() & (before.isnull() | ~inside | (earlier != block))
    gap = earlier - block
    return {
        f"days_{i}": seen.count(where=opens),
        f"same_{i}": seen.count(where=opens & ((block + 1) % _WEEK == 0)),
        f"newest_{i}": block.min(),
        f"oldest_{i}": block.max(),
        f"second_{i}": earlier.min(where=apart),
        f"squares_{i}": (gap * gap).sum(where=apart).fill_null(0),
    }


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
