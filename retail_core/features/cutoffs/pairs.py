"""Which (user, cut-off) pairs make rows, and which midnights have a label that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow
from ibis.expr.types import IntegerValue
from pandera.typing.pandas import DataFrame

from retail_core.features.batch.engine import DUCKDB, EngineOptions, open_engine
from retail_core.features.cutoffs.span import LogSpan, log_span
from retail_core.features.kinds import HOUR_US
from retail_core.features.question import Question
from retail_core.features.reader import LakeReader, to_micros
from retail_core.log_coverage import closed_weekdays, covered_days, overlaps_gap
from retail_core.schemas import Pairs
from retail_core.times import midnights, zone

FIRST_VISIT_DELAY = timedelta(seconds=1)
"""A first-visit cut-off is so long after the user's first event."""


@dataclass(frozen=True)
class CutoffPlan:
    """Daily cut-offs with known labels.

    Attributes:
        cutoffs: usable midnights, ascending, UTC.
        gaps: local days without any event that are no regular closure, those after the end of the log
            included; cut-offs whose horizon touches one have an unknown label and are left out.
        unknown: those cut-offs, and those whose horizon reaches beyond what is known.
        closed_weekdays: weekdays (0 = Monday) silent in most weeks of the log.
        first_day: first local day of the log, strays before it aside; None without events.
    """

    cutoffs: tuple[datetime, ...]
    gaps: tuple[date, ...]
    unknown: tuple[datetime, ...] = ()
    closed_weekdays: tuple[int, ...] = ()
    first_day: date | None = None


def daily_pairs(
    lake: LakeReader, question: Question, cutoffs: Sequence[datetime], engine: EngineOptions = DUCKDB
) -> DataFrame[Pairs]:
    """Eligible users at each cut-off, ordered by cut-off and user.

    Args:
        lake: where the events are.
        question: the eligibility window; a user with an event in [t - eligible_days, t) is eligible.
        cutoffs: instants, any.
        engine: what computes.

    Returns:
        `user_id`, `as_of` (ms, UTC), each pair once.
    """
    instants = sorted({to_micros(cutoff) for cutoff in cutoffs})
    if not instants:
        return as_pairs([], np.empty(0, np.int64))
    span = question.eligible_days * 24 * HOUR_US
    with open_engine(engine) as running:
        events = running.events(lake, min(cutoffs) - question.eligibility, max(cutoffs))
        active = events.select("user_id", start=_cell_start(events.ts, instants, span)).distinct()
        at = running.table(pyarrow.table({"as_of": instants}))
        joined = active.join(at, [active.start < at.as_of, active.start >= at.as_of - span])
        rows = running.fetch(joined.select("user_id", "as_of").distinct().order_by(["as_of", "user_id"]))
    return as_pairs(rows.column("user_id").to_pylist(), rows.column("as_of").to_numpy())


def _cell_start(ts: IntegerValue, instants: Sequence[int], span: int) -> IntegerValue:
    """When the cell of a time begins; no instant lies inside a cell, nor does what is `span` before one."""
    edges = np.unique([*instants, *(instant - span for instant in instants)])
    first, step = int(edges[0]), int(np.gcd.reduce(np.diff(edges)))
    return ((ts - first) // step).cast("int64") * step + first


def first_visit_pairs(
    lake: LakeReader, question: Question, before: datetime, engine: EngineOptions = DUCKDB
) -> DataFrame[Pairs]:
    """One pair per user: the first event's time + 1 s, ordered by cut-off and user.

    Args:
        lake: where the events are.
        question: not needed by this policy; part of the policies' common signature.
        before: the latest cut-off. For labelled rows pass the instant up to which events are known,
            less the horizon.
        engine: what computes.
    """
    del question
    with open_engine(engine) as running:
        events = running.events(lake, None, before)
        first = events.group_by("user_id").agg(ts=events.ts.min()).order_by(["ts", "user_id"])
        rows = running.fetch(first)
    as_of = rows.column("ts").to_numpy() + FIRST_VISIT_DELAY // timedelta(microseconds=1)
    known = as_of <= to_micros(before)
    users = np.array(rows.column("user_id").to_pylist(), object)
    return as_pairs(users[known].tolist(), as_of[known])


def as_pairs(users: Sequence[str], micros: np.ndarray[tuple[int], np.dtype[np.int64]]) -> DataFrame[Pairs]:
    """Users and their cut-offs (microseconds since 1970) as a table of pairs."""
    as_of = pd.to_datetime(pd.Series(micros, dtype="int64"), unit="us", utc=True).dt.as_unit("ms")
    frame = pd.DataFrame({"user_id": pd.Series(users, dtype="str"), "as_of": as_of})
    return Pairs.validate(frame)


def labelled_cutoffs(
    lake: LakeReader, question: Question, as_of: datetime, engine: EngineOptions = DUCKDB
) -> CutoffPlan:
    """Midnights of the shop's zone whose label is known at `as_of`, see `plan_cutoffs`.

    Args:
        lake: where the events are.
        question: horizon, look-back and zone.
        as_of: when the question is asked; the log may end earlier.
        engine: what computes.
    """
    return plan_cutoffs(log_span(lake, as_of, question.timezone, engine), question)


def plan_cutoffs(span: LogSpan, question: Question) -> CutoffPlan:
    """Midnights whose label is known from a log of that span.

    A midnight t is usable where the log is known up to t + horizon, where the horizon touches no gap, and
    where enough of the log lies before it: the look-back, but never more than a quarter of the log, so
    that a short log keeps rows to learn from; at least one day. Which weekdays are closed is told by the
    days of the log alone: silence after its end is a gap.
    """
    log = covered_days(span.counts)
    if not log:
        return CutoffPlan((), ())
    until = max(log[-1], _last_day(span.as_of, question))
    days = [log[0] + timedelta(days=n) for n in range((until - log[0]).days + 1)]
    silent = [day for day in days if day not in span.counts]
    seen = [day for day in days if day <= log[-1]]
    closed = closed_weekdays(seen, [day for day in silent if day <= log[-1]])
    gaps = tuple(day for day in silent if day.weekday() not in closed)
    history = min(question.lookback_days, max(1, len(seen) // 4))
    first = _midnight(days[0] + timedelta(days=history), question.timezone)
    possible = list(midnights(first, span.as_of - question.horizon, question.timezone))
    known = {
        t
        for t in possible
        if t + question.horizon <= span.known_until
        and not overlaps_gap(t, t + question.horizon, question.timezone, gaps)
    }
    usable = tuple(t for t in possible if t in known)
    unknown = tuple(t for t in possible if t not in known)
    return CutoffPlan(usable, gaps, unknown, closed, days[0])


def untouched(
    as_of: pd.Series, question: Question, gaps: Sequence[date]
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which instants have a horizon that holds no instant of a gap day."""
    end = as_of + question.horizon - timedelta(microseconds=1)
    first, last = (times.dt.tz_convert(question.timezone).dt.date for times in (as_of, end))
    touched = np.zeros(len(as_of), bool)
    for gap in gaps:
        touched |= ((first <= gap) & (last >= gap)).to_numpy(bool)
    return ~touched


def _last_day(as_of: datetime, question: Question) -> date:
    """The last local day that ends at or before `as_of` or holds it."""
    return (as_of - timedelta(microseconds=1)).astimezone(zone(question.timezone)).date()


def _midnight(day: date, zone_name: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone(zone_name)).astimezone(UTC)
