"""The `in-session` policy: random instants while a user is in the app, and when it applies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import ibis
import numpy as np
import pandas as pd
from ibis.expr.types import Table
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.engine import DUCKDB, EngineOptions, open_engine
from retail_core.features.cutoffs.pairs import CutoffPlan, as_pairs, untouched
from retail_core.features.kinds import IN_SESSION_HOURS, SESSION_GAP_US
from retail_core.features.question import Question
from retail_core.features.reader import LakeReader
from retail_core.schemas import Pairs

IN_SESSION = "in-session"
LAST_EVENT_FEATURE = "hours_since_event"

WANTED_ROWS = 60_000
"""About so many instants are drawn from a log that has more events."""

MIN_SHARE_WITH_LENGTH = 0.2
"""Below it sessions are single stamps (a table of orders), and being "in session" means nothing."""


def in_session_pairs(
    lake: LakeReader,
    question: Question,
    plan: CutoffPlan,
    before: datetime,
    engine: EngineOptions = DUCKDB,
) -> DataFrame[Pairs]:
    """Random instants less than 30 minutes after one of the user's events, ordered by cut-off and user.

    Each event is drawn by the hash of its id with one probability for all, and the instant follows it by
    a uniform part of 30 minutes. Neither looks at what comes later, so no kind of session is favoured.

    Args:
        lake: where the events are.
        question: horizon and zone.
        plan: the daily cut-offs of the same log; instants lie at or after the first of them and never
            where the horizon touches a gap.
        before: instants lie at or before it; for labelled rows the end of what is known, less the horizon.
        engine: what computes.
    """
    if not plan.cutoffs:
        return as_pairs([], np.empty(0, np.int64))
    with open_engine(engine) as running:
        events = running.events(lake, plan.cutoffs[0], before)
        count = int(running.fetch(events.count().as_table()).column(0)[0].as_py())
        share = min(1.0, WANTED_ROWS / max(1, count))
        digested = events.mutate(digest=events.event_id.hexdigest("md5"))
        drawn = digested.filter(digested.digest.substr(0, 8) <= f"{int(share * 0xFFFFFFFF):08x}")
        rows = running.fetch(drawn.select("user_id", "ts", "digest"))
    drawn_rows = rows.to_pandas()
    drawn_rows["as_of"] = drawn_rows["ts"] + drawn_rows["digest"].map(_delay_us).astype("int64")
    unique = drawn_rows.drop_duplicates(["user_id", "as_of"])
    pairs = as_pairs(unique["user_id"].tolist(), unique["as_of"].to_numpy(np.int64))
    known = (pairs["as_of"] <= before).to_numpy(bool) & untouched(pairs["as_of"], question, plan.gaps)
    return Pairs.validate(pairs[known].sort_values(["as_of", "user_id"], ignore_index=True))


def _delay_us(digest: str) -> int:
    """1 ms up to but not including 30 minutes, in whole milliseconds."""
    return (1 + int(digest[8:16], 16) % (SESSION_GAP_US // 1_000 - 1)) * 1_000


def share_with_length(lake: LakeReader, before: datetime, engine: EngineOptions = DUCKDB) -> float:
    """Share of the sessions before that instant that hold two events of different times; 0 without events."""
    with open_engine(engine) as running:
        events = running.events(lake, None, before).select("user_id", "ts").distinct()
        ended = running.fetch(_sessions(events))
    sessions, long = (int(ended.column(name)[0].as_py() or 0) for name in ("sessions", "long"))
    return long / sessions if sessions else 0.0


def _sessions(moments: Table) -> Table:
    """Counts of sessions and of those with a second moment: a start that the next moment follows in time."""
    window = ibis.window(group_by="user_id", order_by="ts")
    earlier, later = moments.ts - moments.ts.lag().over(window), moments.ts.lead().over(window) - moments.ts
    starts = earlier.isnull() | (earlier >= SESSION_GAP_US)
    marked = moments.mutate(starts=starts, goes_on=later < SESSION_GAP_US)
    return marked.agg(
        sessions=marked.starts.sum().cast("int64"),
        long=(marked.starts & marked.goes_on.fill_null(False)).sum().cast("int64"),
    )


def default_policies(
    lake: LakeReader, named: str | None, before: datetime, engine: EngineOptions = DUCKDB
) -> tuple[str, ...]:
    """What the shop's source names, else daily, and in-session where sessions have a length."""
    if named is not None:
        return (named,)
    if share_with_length(lake, before, engine) >= MIN_SHARE_WITH_LENGTH:
        return ("daily", IN_SESSION)
    return ("daily",)


def who(question: Question, policy: str, as_of: str = "") -> str:
    """Whom a row of that policy is about, in words; of one cut-off where `as_of` names it."""
    if policy == "first-visit":
        return "every user, one second after the first visit" + (f", up to {as_of}" if as_of else "")
    if policy == IN_SESSION:
        return "users within 30 minutes of an event, at a random instant"
    active = f"users with an event in the {question.eligible_days} days before "
    return active + (as_of or f"the cut-off, each midnight {question.timezone}")


def policy_for(hours_silent: float | None, policies: Sequence[str]) -> str:
    """By which policy to answer: in-session if and only if the last event is under 30 minutes old.

    Args:
        hours_silent: hours since the user's last event; None or NaN where there is none.
        policies: those of the model, the primary one first.
    """
    inside = hours_silent is not None and hours_silent < IN_SESSION_HOURS
    return IN_SESSION if inside and IN_SESSION in policies else policies[0]


def policy_at(features: pd.DataFrame, policies: Sequence[str]) -> pd.Series[str]:
    """`policy_for` of each row of features."""
    silent = features.get(LAST_EVENT_FEATURE, pd.Series(np.nan, index=features.index))
    inside = (silent < IN_SESSION_HOURS) & (IN_SESSION in policies)
    return pd.Series(np.where(inside, IN_SESSION, policies[0]), index=features.index, dtype="str")
