"""Which daily cut-offs have a known label: the period a log covers, its gaps and regular closures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import cast

import pandas as pd

from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, QueryEngine, open_engine
from retail_core.features.local_days import EPOCH_DAY, events_by_local_day, local_midnight
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import HOUR_US
from retail_core.log_coverage import (
    classify_silent_days,
    closed_weekdays,
    covered_days,
    last_covered_day,
    overlaps_gap,
)
from retail_core.times import from_micros, last_midnight, midnights, to_micros, zone

END_OF_DAY_TOLERANCE = timedelta(minutes=1)
"""A day whose last event lies this close to its end is complete: the log did not stop during it."""

LATER_EVENTS_REACH = timedelta(days=7)
"""An event this long after `as_of` still shows that the log continues; a later one may have a wrong clock."""

_QUARTER_US = HOUR_US // 4
"""Since 1990 the midnights of every zone lie on quarters of an hour."""


@dataclass(frozen=True)
class LogCoverage:
    """What a log covers at `as_of`.

    Attributes:
        as_of: events before this instant count, UTC.
        known_until: events before this instant are in the log, as far as it shows; at most `as_of`.
        counts: events before `as_of` by local day.
        active_users: distinct users with an event before `as_of` by local day; empty where no day of the log
            is without events on a weekday that is otherwise open, since nothing depends on it then.
    """

    as_of: datetime
    known_until: datetime
    counts: dict[date, int]
    active_users: dict[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CutoffPlan:
    """Daily cut-offs with known labels.

    Attributes:
        cutoffs: usable midnights, ascending, UTC.
        gaps: local days without any event that are outages, and those after the end of the log that are no
            regular closure; cut-offs whose horizon overlaps one have an unknown label and are left out.
        unknown: those cut-offs, and those whose horizon ends after the known part of the log.
        closed_weekdays: weekdays (0 = Monday) without events in most weeks of the log.
        first_day: first local day of the log, outliers before it aside; None without events.
        quiet_days: days of the log without events on which nobody came; their labels are known.
    """

    cutoffs: tuple[datetime, ...]
    gaps: tuple[date, ...]
    unknown: tuple[datetime, ...] = ()
    closed_weekdays: tuple[int, ...] = ()
    first_day: date | None = None
    quiet_days: tuple[date, ...] = ()


def known_until(newest: datetime, as_of: datetime, zone_name: str) -> datetime:
    """The instant up to which a log is known at `as_of`: its newest event, and never later than `as_of`.

    The time after the newest event is unknown, which is not the same as quiet. Only the remainder of a day
    that is complete but for less than `END_OF_DAY_TOLERANCE` counts as known.

    >>> from datetime import UTC
    >>> day = lambda hour, minute: datetime(2025, 2, 8, hour, minute, tzinfo=UTC)
    >>> known_until(day(7, 57), day(9, 0), "UTC").isoformat()
    '2025-02-08T07:57:00+00:00'
    """
    end_of_log = max(newest, last_midnight(newest + END_OF_DAY_TOLERANCE, zone_name))
    return min(as_of, end_of_log)


def read_log_coverage(
    lake: LakeReader, as_of: datetime, zone_name: str, engine: EngineOptions = DUCKDB
) -> LogCoverage:
    """What a log covers at `as_of` (aware).

    Events at or after `as_of`, up to `LATER_EVENTS_REACH` later, only show that the log continues; outliers
    are ignored. Without events everything up to `as_of` counts as known.
    """
    cutoff = to_micros(as_of)
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, None, as_of + LATER_EVENTS_REACH)
        quarters = events.group_by(quarter=(events.ts // _QUARTER_US).cast("int64")).agg(
            n=events.count(), before=(events.ts < cutoff).sum().cast("int64"), newest=events.ts.max()
        )
        frame = query_engine.to_arrow(quarters).to_pandas()
        days = _local_days(frame, zone_name)
        before = cast("pd.Series[int]", days["before"])
        counts = {cast("date", day): int(n) for day, n in before.items() if n}
        active_users: dict[date, int] = {}
        if _has_unexplained_silence(counts):
            active_users = _active_users(query_engine, lake, counts, as_of, zone_name)
    newest = last_covered_day({cast("date", day): int(n) for day, n in days["n"].items()})
    if newest is None:
        return LogCoverage(as_of, as_of, counts)
    newest_event_time = from_micros(int(days["newest"][newest]))
    return LogCoverage(as_of, known_until(newest_event_time, as_of, zone_name), counts, active_users)


def _local_days(frame: pd.DataFrame, zone_name: str) -> pd.DataFrame:
    """Sums of `n` and `before`, and the newest time, by local day of the quarters of an hour."""
    starts = pd.to_datetime(frame["quarter"] * _QUARTER_US, unit="us", utc=True)
    return frame.groupby(starts.dt.tz_convert(zone_name).dt.date).agg(
        {"n": "sum", "before": "sum", "newest": "max"}
    )


def _has_unexplained_silence(counts: dict[date, int]) -> bool:
    """Whether a day of the log is without events on a weekday that is not regularly closed."""
    days = _calendar(covered_days(counts))
    silent = [day for day in days if day not in counts]
    closed = closed_weekdays(days, silent)
    return any(day.weekday() not in closed for day in silent)


def _calendar(log_days: Sequence[date]) -> list[date]:
    """Every calendar day from the first to the last of `log_days`."""
    if not log_days:
        return []
    return [log_days[0] + timedelta(days=n) for n in range((log_days[-1] - log_days[0]).days + 1)]


def _active_users(
    engine: QueryEngine, lake: LakeReader, counts: dict[date, int], as_of: datetime, zone_name: str
) -> dict[date, int]:
    """Distinct users with an event before `as_of` by local day of the log."""
    log_days = covered_days(counts)
    end = log_days[-1] + timedelta(days=1)
    events = events_by_local_day(engine, lake, (log_days[0], end), zone_name)
    users = events.filter(events.ts < to_micros(as_of)).group_by("day").agg(users=events.user_id.nunique())
    rows = engine.to_arrow(users).to_pylist()
    return {EPOCH_DAY + timedelta(days=int(row["day"])): int(row["users"]) for row in rows}


def labelled_cutoffs(
    lake: LakeReader, task: PredictionTask, as_of: datetime, engine: EngineOptions = DUCKDB
) -> CutoffPlan:
    """Midnights of the shop's zone whose label is known at `as_of`, see `plan_cutoffs`.

    Args:
        lake: where the events are.
        task: horizon, look-back and zone.
        as_of: the instant at which labels must be known; the log may end earlier.
        engine: runs the query.
    """
    return plan_cutoffs(read_log_coverage(lake, as_of, task.timezone, engine), task)


def plan_cutoffs(coverage: LogCoverage, task: PredictionTask) -> CutoffPlan:
    """Midnights whose label is known from a log with this coverage.

    A midnight t is usable where the log is known up to t + horizon, where the horizon overlaps no gap, and
    where enough of the log lies before it: the look-back, but never more than a quarter of the log, so that
    a short log keeps rows to learn from; at least one day. Closed weekdays and real quiet days are inferred
    from the days of the log alone: silence after its end is a gap.
    """
    log_days = covered_days(coverage.counts)
    if not log_days:
        return CutoffPlan((), ())
    within_log = _calendar(log_days)
    active_users = coverage.active_users or coverage.counts
    silent_days = classify_silent_days(within_log, active_users, task.quiet_days)
    closed_weekdays, last_day = silent_days.closed_weekdays, _last_local_day(coverage.as_of, task)
    after_log = [log_days[-1] + timedelta(days=n) for n in range(1, (last_day - log_days[-1]).days + 1)]
    gaps = (*silent_days.outages, *(day for day in after_log if day.weekday() not in closed_weekdays))
    history_days = min(task.lookback_days, max(1, len(within_log) // 4))
    first = local_midnight(log_days[0] + timedelta(days=history_days), task.timezone)
    candidates = list(midnights(first, coverage.as_of - task.horizon, task.timezone))
    usable = {
        t
        for t in candidates
        if t + task.horizon <= coverage.known_until
        and not overlaps_gap(t, t + task.horizon, task.timezone, gaps)
    }
    return CutoffPlan(
        cutoffs=tuple(t for t in candidates if t in usable),
        gaps=gaps,
        unknown=tuple(t for t in candidates if t not in usable),
        closed_weekdays=closed_weekdays,
        first_day=log_days[0],
        quiet_days=silent_days.quiet,
    )


def _last_local_day(as_of: datetime, task: PredictionTask) -> date:
    """The last local day that ends at or before `as_of` or contains it."""
    return (as_of - timedelta(microseconds=1)).astimezone(zone(task.timezone)).date()
