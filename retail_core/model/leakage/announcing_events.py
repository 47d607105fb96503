"""Check (c) on event types: one that is stamped before a purchase but only follows from it.

Such an event is not a feature of its own, but counts and recencies see it. It is tested twice: among
its own events (does a purchase nearly always come?) and among the rows (is it what the buyers' rows
have?). The first alone is no leak: a payment that was authorised a second before the purchase announces
it as well, but hardly any cut-off falls between the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

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
"""An event is first seen up to a day later, by the next daily cut-off; so much longer is looked ahead."""
PURE_VALUE = 0.98
"""Of an event type that announces purchases at least this share is followed by one."""
PURE_IN_ROWS = 0.90
"""Of the rows in which such an event is open, at least this share buys."""
LEAST_ROWS = 5


def find_announcing_events(evidence: GuardData, sample: GuardSample) -> Iterator[Finding]:
    """(c) Event types after which nearly every user buys, and which the buyers' rows have."""
    followed = _followed(evidence, sample)
    alpha = FAMILY_ALPHA / max(1, len(followed))
    pure: dict[str, tuple[int, Interval]] = {}
    for name, users, bought in followed:
        found = share_interval(bought, users, alpha)
        if found.value >= PURE_VALUE and found.low >= PURE_LOW:
            pure[name] = users, found
    if not pure:
        return
    opened = _open_in_rows(evidence, sample)
    for name, (users, found) in pure.items():
        yield _finding(name, (users, found), opened.get(name, np.empty(0, np.intp)), sample)


def event_types(lake: LakeReader, as_of: datetime | None) -> set[str]:
    """Every type of event before as_of."""
    with open_engine() as engine:
        events = engine.events(lake, None, as_of)
        return set(engine.to_arrow(events.select("event_type").distinct()).column("event_type").to_pylist())


def _finding(name: str, followed: tuple[int, Interval], inside: IndexVector, sample: GuardSample) -> Finding:
    labels = sample.answers.labels
    rows, bought = len(inside), int(labels[inside].sum())
    users, found = followed
    share = float(correct_prior(np.array([bought / max(1, rows)]), sample.answers.factor)[0])
    covered = bought / max(1, int(labels.sum()))
    leaks = rows >= LEAST_ROWS and share >= PURE_IN_ROWS and covered >= BUYERS_COVERED
    verdict: Verdict = "refuse" if leaks else "warn"
    told = (
        f"Event type {name}: {found.value:.1%} of {users:,} users buy after it (at least {found.low:.1%}); "
        f"{share:.1%} of the {rows:,} {sample.policy} rows where it is open buy, {covered:.1%} of the "
        "buyers' rows."
    )
    return Finding(
        "c", name, verdict, told,
        {"policy": sample.policy, "n": users, "purity": found.value, "low": found.low, "high": found.high,
         "rows": rows, "share_of_rows": share, "covered": covered, "limit": PURE_LOW},
    )  # fmt: skip


def _followed(evidence: GuardData, sample: GuardSample) -> list[tuple[str, int, int]]:
    """Event type, users with one, and those who buy after one of theirs, drawn by the hash of its id.

    Only events whose following hours are known at as_of, of the users in the sample.
    """
    lake, as_of = evidence.lake, evidence.as_of
    if lake is None or as_of is None:
        return []
    reach = evidence.feature_set.task.horizon + REACH
    span = reach // timedelta(microseconds=1)
    users = pyarrow.table({"user_id": pyarrow.array(sample.rows["user_id"].unique(), pyarrow.string())})
    with open_engine() as engine:
        events = engine.events(lake, None, as_of).join(engine.table(users), "user_id")
        purchases = events.filter(events.event_type == "purchase").select("user_id", at=events.ts)
        early = events.filter(events.event_type != "purchase", events.ts < to_micros(as_of) - span)
        drawn = early.group_by("user_id", "event_type").agg(ts=early.ts.argmin(early.event_id.hash()))
        after = drawn.join(purchases.distinct(), "user_id")
        hits = (
            after.filter(after.at > after.ts, after.at <= after.ts + span)
            .select("user_id", "event_type")
            .distinct()
        )
        every = engine.to_arrow(drawn.group_by("event_type").agg(n=drawn.count())).to_pylist()
        bought = engine.to_arrow(hits.group_by("event_type").agg(n=hits.count())).to_pylist()
    followed = {str(row["event_type"]): int(row["n"]) for row in bought}
    counts = sorted((str(row["event_type"]), int(row["n"])) for row in every)
    return [(name, n, followed.get(name, 0)) for name, n in counts]


def _open_in_rows(evidence: GuardData, sample: GuardSample) -> dict[str, IndexVector]:
    """By event type the rows in whose last horizon it was seen, without a purchase since."""
    lake, task = evidence.lake, evidence.feature_set.task
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
        seen = joined.filter(joined.ts < joined.as_of, joined.ts >= joined.as_of - span)
        newest = engine.to_arrow(seen.group_by("pid", "event_type").agg(ts=seen.ts.max())).to_pandas()
    bought = newest[newest["event_type"] == "purchase"].set_index("pid")["ts"]
    since = newest["pid"].map(bought).fillna(-1)
    opened = newest[(newest["event_type"] != "purchase") & (newest["ts"] > since)]
    return {str(name): group.to_numpy(np.intp) for name, group in opened.groupby("event_type")["pid"]}
