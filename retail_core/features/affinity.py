"""How a user's events spread over categories, at every cut-off, in one pass.

The sum of squared counts per category changes only when an event enters or leaves the look-back. Each
such change is known from a running count alone, so one stream of changes and cut-offs, summed in order
of time, gives the sum at every cut-off; no category is looked at per cut-off.
"""

from __future__ import annotations

import ibis
from ibis.expr.types import Table


def category_squares(events: Table, pairs: Table, lookback_us: int) -> Table:
    """One row per pid: category_events (n, those that name a category), category_squares (sum of n_c^2).

    Args:
        events: uid, pos, category.
        pairs: pid, uid, as_of; an event counts where as_of - look-back <= pos < as_of.
        lookback_us: length of the look-back.
    """
    changes = _changes(events, lookback_us)
    counts = changes.k.sum().over(ibis.window(group_by=["uid", "category"], order_by="at", rows=(None, 0)))
    changes = changes.mutate(n=counts)
    grown = changes.n * changes.n - (changes.n - changes.k) * (changes.n - changes.k)
    steps = changes.group_by(["uid", "at"]).agg(events=changes.k.sum(), squares=grown.sum())
    nothing = ibis.literal(0, "int64")
    steps = steps.select(
        "uid",
        "at",
        pid=ibis.null("int64"),
        events=steps.events.cast("int64"),
        squares=steps.squares.cast("int64"),
    )
    stops = pairs.select("uid", at="as_of", pid="pid", events=nothing, squares=nothing)
    stream = steps.union(stops)
    # A change at the very cut-off is not in effect yet: cut-offs come first.
    in_order = ibis.window(group_by="uid", order_by=["at", stream.pid.isnull()], rows=(None, 0))
    summed = stream.select(
        "pid",
        category_events=stream.events.sum().over(in_order),
        category_squares=stream.squares.sum().over(in_order),
    )
    return summed.filter(summed.pid.notnull())


def _changes(events: Table, lookback_us: int) -> Table:
    """One row per (uid, category, at): by how much k its count has changed for cut-offs after `at`."""
    named = events.filter(events.category.notnull())
    entering = named.group_by(["uid", "category", "pos"]).agg(k=named.count())
    changes = ibis.union(
        entering.select("uid", "category", at="pos", k="k"),
        entering.select("uid", "category", at=entering.pos + lookback_us, k=-entering.k),
    )
    return changes.group_by(["uid", "category", "at"]).agg(k=changes.k.sum().cast("int64"))
