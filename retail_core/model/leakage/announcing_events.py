"""Check (c) on event types: types that are stamped before a purchase but only follow from it.

Such an event type is not a feature, but counts and recencies contain it. It is tested twice: among its own
events (does a purchase nearly always follow?) and among the rows (do the buyers' rows contain it?). The first
alone is no leak: a payment authorised a second before the purchase announces it too, but hardly any cut-off
falls between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow

from retail_core.arrays import IndexVector
from retail_core.features.engine import LakeReader, open_engine
from retail_core.model.leakage.guard_data import GuardData, GuardSample
from retail_core.model.leakage.intervals import Interval, share_interval
from retail_core.model.leakage.leakage_report import Finding, Verdict
from retail_core.model.leakage.single_columns import FAMILY_ALPHA
from retail_core.model.leakage.value_cells import BUYERS_COVERED, PURE_LOW
from retail_core.model.sampling import correct_prior
from retail_core.times import to_micros

REACH = timedelta(hours=24)
"""Added to the horizon: a daily cut-off sees an event up to a day after it happened."""
PURE_VALUE = 0.98
"""Share of an event type's users who buy afterwards, from which on the type announces purchases."""
PURE_IN_ROWS = 0.90
"""Share of the rows with such an open event that buy, from which on the type leaks."""
MIN_ROWS = 5


class _EventTypeCount(NamedTuple):
    """Users with an event of the type, and those of them who bought after a random one of their events."""

    event_type: str
    users: int
    bought: int


def find_announcing_events(guard_data: GuardData, sample: GuardSample) -> Iterator[Finding]:
    """(c) Event types after which nearly every user buys, and which the buyers' rows contain."""
    counts = _count_purchases_after_events(guard_data, sample)
    alpha = FAMILY_ALPHA / max(1, len(counts))
    announcing: dict[str, tuple[int, Interval]] = {}
    for count in counts:
        interval = share_interval(count.bought, count.users, alpha)
        if interval.value >= PURE_VALUE and interval.low >= PURE_LOW:
            announcing[count.event_type] = count.users, interval
    if not announcing:
        return
    open_rows = _rows_with_open_event(guard_data, sample)
    for event_type, (users, interval) in announcing.items():
        rows = open_rows.get(event_type, np.empty(0, np.intp))
        yield _announcement_finding(event_type, users, interval, rows, sample)


def event_types(lake: LakeReader, as_of: datetime | None) -> set[str]:
    """Every type of event before `as_of`."""
    with open_engine() as engine:
        events = engine.events(lake, None, as_of)
        return set(engine.to_arrow(events.select("event_type").distinct()).column("event_type").to_pylist())


def _announcement_finding(
    event_type: str, users: int, interval: Interval, open_rows: IndexVector, sample: GuardSample
) -> Finding:
    labels = sample.row_labels.bought
    rows, bought = len(open_rows), int(labels[open_rows].sum())
    share = float(correct_prior(np.array([bought / max(1, rows)]), sample.row_labels.factor)[0])
    covered = bought / max(1, int(labels.sum()))
    leaks = rows >= MIN_ROWS and share >= PURE_IN_ROWS and covered >= BUYERS_COVERED
    verdict: Verdict = "refuse" if leaks else "warn"
    sentence = (
        f"Event type {event_type}: {interval.value:.1%} of {users:,} users buy after it (at least "
        f"{interval.low:.1%}); {share:.1%} of the {rows:,} {sample.policy} rows where it is open buy, "
        f"{covered:.1%} of the buyers' rows."
    )
    return Finding(
        "c", event_type, verdict, sentence,
        {"policy": sample.policy, "n": users, "purity": interval.value, "low": interval.low,
         "high": interval.high, "rows": rows, "share_of_rows": share, "covered": covered, "limit": PURE_LOW},
    )  # fmt: skip


def _count_purchases_after_events(guard_data: GuardData, sample: GuardSample) -> list[_EventTypeCount]:
    """Purchases after one event per user and type, drawn by the hash of its id, for the sample's users.

    Only events whose following hours are known at `as_of` count.
    """
    lake, as_of = guard_data.lake, guard_data.as_of
    if lake is None or as_of is None:
        return []
    reach = guard_data.feature_set.task.horizon + REACH
    span = reach // timedelta(microseconds=1)
    users = pyarrow.table({"user_id": pyarrow.array(sample.rows["user_id"].unique(), pyarrow.string())})
    with open_engine() as engine:
        events = engine.events(lake, None, as_of).join(engine.table(users), "user_id")
        purchases = events.filter(events.event_type == "purchase").select("user_id", at=events.ts)
        early = events.filter(events.event_type != "purchase", events.ts < to_micros(as_of) - span)
        sampled = early.group_by("user_id", "event_type").agg(ts=early.ts.argmin(early.event_id.hash()))
        later_purchases = sampled.join(purchases.distinct(), "user_id")
        followed = (
            later_purchases.filter(
                later_purchases.at > later_purchases.ts, later_purchases.at <= later_purchases.ts + span
            )
            .select("user_id", "event_type")
            .distinct()
        )
        all_counts = engine.to_arrow(sampled.group_by("event_type").agg(n=sampled.count())).to_pylist()
        bought_counts = engine.to_arrow(followed.group_by("event_type").agg(n=followed.count())).to_pylist()
    bought = {str(row["event_type"]): int(row["n"]) for row in bought_counts}
    totals = sorted((str(row["event_type"]), int(row["n"])) for row in all_counts)
    return [_EventTypeCount(name, n, bought.get(name, 0)) for name, n in totals]


def _rows_with_open_event(guard_data: GuardData, sample: GuardSample) -> dict[str, IndexVector]:
    """By event type the rows in whose last horizon it happened, without a purchase since."""
    lake, task = guard_data.lake, guard_data.feature_set.task
    if lake is None:
        return {}
    as_of = sample.rows["as_of"]
    first, last = as_of.min().to_pydatetime(), as_of.max().to_pydatetime()
    span = task.horizon // timedelta(microseconds=1)
    micros = as_of.dt.as_unit("us").astype("int64").to_numpy()
    pairs = pyarrow.table(
        {
            "pid": np.arange(len(as_of)),
            "user_id": pyarrow.array(sample.rows["user_id"], pyarrow.string()),
            "as_of": micros,
        }
    )
    with open_engine() as engine:
        events = engine.events(lake, first - task.horizon, last)
        joined = events.select("user_id", "event_type", "ts").join(engine.table(pairs), "user_id")
        recent = joined.filter(joined.ts < joined.as_of, joined.ts >= joined.as_of - span)
        newest = engine.to_arrow(recent.group_by("pid", "event_type").agg(ts=recent.ts.max())).to_pandas()
    purchases = newest[newest["event_type"] == "purchase"].set_index("pid")["ts"]
    last_purchase = newest["pid"].map(purchases).fillna(-1)
    still_open = newest[(newest["event_type"] != "purchase") & (newest["ts"] > last_purchase)]
    return {str(name): group.to_numpy(np.intp) for name, group in still_open.groupby("event_type")["pid"]}
