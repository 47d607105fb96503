"""Cut-off policies: which (user, as_of) pairs make rows, and which policy applies to a user.

`daily`: eligible users at local midnights. `in-session`: random instants while a user is in the app.
`first-visit`: one instant per user, right after the first event.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import ibis
import numpy as np
import pandas as pd
import pyarrow
from ibis.expr.types import IntegerValue, Table
from pandera.typing.pandas import DataFrame

from retail_core.arrays import IntVector
from retail_core.features.cutoffs.cutoff_plan import CutoffPlan
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, QueryEngine, open_engine
from retail_core.features.persons import Persons, event_owners, read_persons
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import HOUR_US, IN_SESSION_HOURS, SESSION_GAP_US
from retail_core.log_coverage import overlaps_gap
from retail_core.schemas import Pairs
from retail_core.times import to_micros

IN_SESSION = "in-session"
LAST_EVENT_FEATURE = "hours_since_event"

FIRST_VISIT_DELAY = timedelta(seconds=1)
"""Time from a user's first event to the first-visit cut-off."""

IN_SESSION_SAMPLE = 60_000
"""Approximate number of instants sampled from a log that has more events."""

MIN_SHARE_OF_LONG_SESSIONS = 0.2
"""Below it sessions are single timestamps (a table of orders), and being "in session" means nothing."""


def daily_pairs(
    lake: LakeReader, task: PredictionTask, cutoffs: Sequence[datetime], engine: EngineOptions = DUCKDB
) -> DataFrame[Pairs]:
    """Eligible users at each cut-off, ordered by cut-off and user; linked ids are one user, their person.

    Args:
        lake: where the events are.
        task: the eligibility window; a user with an event in [t - eligible_days, t) is eligible.
        cutoffs: instants, any.
        engine: runs the query.

    Returns:
        `user_id`, `as_of` (ms, UTC), each pair once.
    """
    instants = sorted({to_micros(cutoff) for cutoff in cutoffs})
    if not instants:
        return pairs_frame([], np.empty(0, np.int64))
    span = task.eligible_days * 24 * HOUR_US
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, min(cutoffs) - task.eligibility, max(cutoffs))
        at = query_engine.table(pyarrow.table({"as_of": instants}))
        persons = read_persons(lake)
        if persons is None:
            active = events.select("user_id", start=_cell_start(events.ts, instants, span)).distinct()
            eligible = active.join(at, [active.start < at.as_of, active.start >= at.as_of - span])
        else:
            owned = event_owners(query_engine, events, persons)
            cells = {"start": _cell_start(owned.ts, instants, span), "user_id": owned.person}
            active = owned.select("known_from", "known_until", **cells).distinct()
            in_window = [active.start < at.as_of, active.start >= at.as_of - span]
            is_known = [active.known_from < at.as_of, active.known_until >= at.as_of]
            eligible = active.join(at, [*in_window, *is_known])
        ordered = eligible.select("user_id", "as_of").distinct().order_by(["as_of", "user_id"])
        rows = query_engine.to_arrow(ordered)
    return pairs_frame(rows.column("user_id"), rows.column("as_of").to_numpy())


def _cell_start(ts: IntegerValue, instants: Sequence[int], span: int) -> IntegerValue:
    """Start of a time's cell; no instant, and no instant less `span`, lies inside a cell."""
    edges = np.unique([*instants, *(instant - span for instant in instants)])
    first, step = int(edges[0]), int(np.gcd.reduce(np.diff(edges)))
    return ((ts - first) // step).cast("int64") * step + first


def first_visit_pairs(lake: LakeReader, before: datetime, engine: EngineOptions = DUCKDB) -> DataFrame[Pairs]:
    """One pair per user: the first event's time + 1 s, ordered by cut-off and user.

    The user is the person as known at the cut-off. An id whose person has earlier events then has no pair.

    Args:
        lake: where the events are.
        before: the latest cut-off. For labelled rows pass the instant up to which events are known,
            less the horizon.
        engine: runs the query.
    """
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, None, before)
        first = events.group_by("user_id").agg(ts=events.ts.min()).order_by(["ts", "user_id"])
        rows = query_engine.to_arrow(first)
        persons = read_persons(lake)
        if persons is not None:
            return _first_visits_of_persons(query_engine, events, persons, rows, before)
    as_of = rows.column("ts").to_numpy() + FIRST_VISIT_DELAY // timedelta(microseconds=1)
    in_time = as_of <= to_micros(before)
    return pairs_frame(rows.column("user_id").filter(in_time), as_of[in_time])


def _first_visits_of_persons(
    engine: QueryEngine, events: Table, persons: Persons, rows: pyarrow.Table, before: datetime
) -> DataFrame[Pairs]:
    """First visits of persons among those of their ids.

    Args:
        engine: runs the query.
        events: events before `before`.
        persons: persons of the links.
        rows: `user_id` and time `ts` of the first event of each id.
        before: the latest cut-off.
    """
    visits = rows.to_pandas()
    visits["as_of"] = visits["ts"] + FIRST_VISIT_DELAY // timedelta(microseconds=1)
    visits = visits[visits["as_of"] <= to_micros(before)].reset_index(drop=True)
    times = visits["ts"].to_numpy(np.int64), visits["as_of"].to_numpy(np.int64)
    visits["user_id"] = persons.at(visits["user_id"], *times)
    histories = persons.histories(visits["user_id"], times[1], None)
    if histories is not None:
        visit_of = pyarrow.table({"uid": histories.uid, "visit": np.arange(len(visits)), "first": times[0]})
        owned = histories.select(engine, events).join(engine.table(visit_of), "uid")
        earlier = owned.filter(owned.ts < owned.first).select("visit").distinct()
        later_visits = engine.to_arrow(earlier).column("visit").to_numpy()
        visits = visits.drop(index=later_visits).drop_duplicates(["user_id", "as_of"])
    visits = visits.sort_values(["as_of", "user_id"])
    return pairs_frame(visits["user_id"], visits["as_of"].to_numpy(np.int64))


def in_session_pairs(
    lake: LakeReader,
    task: PredictionTask,
    plan: CutoffPlan,
    before: datetime,
    engine: EngineOptions = DUCKDB,
) -> DataFrame[Pairs]:
    """Random instants less than 30 minutes after one of the user's events, ordered by cut-off and user.

    The user is the person to whom the event belongs at that instant.

    Each event is sampled by the hash of its id with one probability for all, and the instant follows it by
    a uniform fraction of 30 minutes. Neither depends on later events, so no kind of session is favoured.

    Args:
        lake: where the events are.
        task: horizon and zone.
        plan: the daily cut-offs of the same log; instants lie at or after the first of them and never
            where the horizon overlaps a gap.
        before: instants lie at or before it; for labelled rows the end of what is known, less the horizon.
        engine: runs the query.
    """
    if not plan.cutoffs:
        return pairs_frame([], np.empty(0, np.int64))
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, plan.cutoffs[0], before)
        count = int(query_engine.to_arrow(events.count().as_table()).column(0)[0].as_py())
        share = min(1.0, IN_SESSION_SAMPLE / max(1, count))
        hashed = events.mutate(digest=events.event_id.hexdigest("md5"))
        sampled = hashed.filter(hashed.digest.substr(0, 8) <= f"{int(share * 0xFFFFFFFF):08x}")
        rows = query_engine.to_arrow(sampled.select("user_id", "ts", "digest")).to_pandas()
    rows["as_of"] = rows["ts"] + rows["digest"].map(_delay_us).astype("int64")
    if (persons := read_persons(lake)) is not None:
        times = (rows[name].to_numpy(np.int64) for name in ("ts", "as_of"))
        rows["user_id"] = persons.at(rows["user_id"], *times).to_numpy()
    unique = rows.drop_duplicates(["user_id", "as_of"])
    pairs = pairs_frame(unique["user_id"], unique["as_of"].to_numpy(np.int64))
    in_time = (pairs["as_of"] <= before).to_numpy(bool)
    instants = pairs["as_of"].dt.to_pydatetime()
    outside_gaps = np.array(
        [not overlaps_gap(t, t + task.horizon, task.timezone, plan.gaps) for t in instants], bool
    )
    pairs = pairs[in_time & outside_gaps]
    return Pairs.validate(pairs.sort_values(["as_of", "user_id"], ignore_index=True))


def _delay_us(digest: str) -> int:
    """1 ms up to but not including 30 minutes, in whole milliseconds."""
    return (1 + int(digest[8:16], 16) % (SESSION_GAP_US // 1_000 - 1)) * 1_000


def pairs_frame(
    users: pyarrow.ChunkedArray | pd.Series[str] | Sequence[str], micros: IntVector
) -> DataFrame[Pairs]:
    """Users and their cut-offs (microseconds since 1970) as a table of pairs."""
    if isinstance(users, pyarrow.ChunkedArray):
        users = users.to_pandas()
    as_of = pd.to_datetime(pd.Series(micros, dtype="int64"), unit="us", utc=True).dt.as_unit("ms")
    user_ids = pd.Series(users).astype("str").reset_index(drop=True)
    frame = pd.DataFrame({"user_id": user_ids, "as_of": as_of})
    return Pairs.validate(frame)


def share_of_long_sessions(lake: LakeReader, before: datetime, engine: EngineOptions = DUCKDB) -> float:
    """Share of the sessions before an instant with two events at different times; 0 without events."""
    with open_engine(engine) as query_engine:
        times = query_engine.events(lake, None, before).select("user_id", "ts").distinct()
        counts = query_engine.to_arrow(_count_sessions(times))
    sessions, long = (int(counts.column(name)[0].as_py() or 0) for name in ("sessions", "long"))
    return long / sessions if sessions else 0.0


def _count_sessions(times: Table) -> Table:
    """Number of sessions, and of those whose first time is followed by another one in the session."""
    window = ibis.window(group_by="user_id", order_by="ts")
    to_previous, to_next = times.ts - times.ts.lag().over(window), times.ts.lead().over(window) - times.ts
    starts = to_previous.isnull() | (to_previous >= SESSION_GAP_US)
    marked = times.mutate(starts=starts, continues=to_next < SESSION_GAP_US)
    return marked.agg(
        sessions=marked.starts.sum().cast("int64"),
        long=(marked.starts & marked.continues.fill_null(False)).sum().cast("int64"),
    )


def default_policies(
    lake: LakeReader, source_policy: str | None, before: datetime, engine: EngineOptions = DUCKDB
) -> tuple[str, ...]:
    """The policy that the shop's source names, else daily, and in-session where sessions have a length."""
    if source_policy is not None:
        return (source_policy,)
    if share_of_long_sessions(lake, before, engine) >= MIN_SHARE_OF_LONG_SESSIONS:
        return ("daily", IN_SESSION)
    return ("daily",)


def describe_population(task: PredictionTask, policy: str, as_of: str = "") -> str:
    """Which users the rows of a policy describe, as text for reports; `as_of` adds the cut-off."""
    if policy == "first-visit":
        return "every user, one second after the first visit" + (f", up to {as_of}" if as_of else "")
    if policy == IN_SESSION:
        return "users within 30 minutes of an event, at a random instant"
    active = f"users with an event in the {task.eligible_days} days before "
    return active + (as_of or f"the cut-off, each midnight {task.timezone}")


def policy_for(hours_since_event: float | None, policies: Sequence[str]) -> str:
    """The policy to predict by: in-session if and only if the last event is under 30 minutes old.

    Args:
        hours_since_event: hours since the user's last event; None or NaN where there is none.
        policies: those of the model, the primary one first.
    """
    in_session = hours_since_event is not None and hours_since_event < IN_SESSION_HOURS
    return IN_SESSION if in_session and IN_SESSION in policies else policies[0]


def policies_for(features: pd.DataFrame, policies: Sequence[str]) -> pd.Series[str]:
    """`policy_for` of each row of features."""
    hours_since_event = features.get(LAST_EVENT_FEATURE, pd.Series(np.nan, index=features.index))
    in_session = (hours_since_event < IN_SESSION_HOURS) & (IN_SESSION in policies)
    return pd.Series(np.where(in_session, IN_SESSION, policies[0]), index=features.index, dtype="str")
