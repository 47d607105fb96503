"""The default cut-off of a list of users, and the period that a prediction is about, in words.

Separate from `cutoff_plan`: a list looks ahead from the newest event, a label needs events that are past.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

import ibis
import pyarrow

from retail_core.features.cutoffs.cutoff_plan import END_OF_DAY_TOLERANCE
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader, open_engine
from retail_core.features.local_days import EPOCH_DAY, events_by_local_day, local_midnight
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_coverage import RHYTHM_DAYS, DayRhythm, is_last_day_complete
from retail_core.times import to_micros, zone

_ONE_DAY, _ONE_MILLISECOND = timedelta(days=1), timedelta(milliseconds=1)


def list_cutoff(
    lake: LakeReader, newest: datetime, zone_name: str, engine: EngineOptions = DUCKDB
) -> datetime:
    """The default cut-off of a list: the next local midnight, or an instant within an unfinished day.

    It is the midnight that ends the day of the newest event where that day is complete: its last event lies
    at most `END_OF_DAY_TOLERANCE` before midnight, or as late as usual for the shop (`is_last_day_complete`).
    Otherwise it is one millisecond after the newest event, so that the event counts. The clock is not read.

    Args:
        lake: where the events are.
        newest: time of the newest event, UTC.
        zone_name: IANA zone of the shop.
        engine: runs the query.
    """
    midnight = local_midnight(_local_day(newest, zone_name) + _ONE_DAY, zone_name)
    if midnight - newest <= END_OF_DAY_TOLERANCE:
        return midnight
    if is_last_day_complete(earlier_rhythm(lake, newest, zone_name, engine)):
        return midnight
    return newest + _ONE_MILLISECOND


def earlier_rhythm(
    lake: LakeReader, newest: datetime, zone_name: str, engine: EngineOptions = DUCKDB
) -> list[DayRhythm]:
    """Each of the `RHYTHM_DAYS` local days before that of the newest event that has events.

    An event is later than the newest one if it is closer to the end of its day, so that the change to or
    from summer time moves nothing.
    """
    last = _local_day(newest, zone_name)
    silence = local_midnight(last + _ONE_DAY, zone_name) - newest
    days = [last - n * _ONE_DAY for n in range(RHYTHM_DAYS, 0, -1)]
    late_from = [to_micros(local_midnight(day + _ONE_DAY, zone_name) - silence) for day in days]
    numbers = [(day - EPOCH_DAY).days for day in days]
    with open_engine(engine) as query_engine:
        events = events_by_local_day(query_engine, lake, (days[0], last), zone_name)
        starts = query_engine.table(pyarrow.table({"day": numbers, "late_from": late_from}))
        events = events.join(starts, "day")
        is_late = events.ts > events.late_from
        counts = events.group_by("day").agg(
            events=events.count(),
            later_events=events.count(where=is_late),
            later_users=events.user_id.nunique(where=is_late),
        )
        rows = query_engine.to_arrow(counts.order_by(ibis.asc("day"))).to_pylist()
    return [DayRhythm(int(row["events"]), int(row["later_events"]), int(row["later_users"])) for row in rows]


def describe_window(
    as_of: datetime, task: PredictionTask, newest: datetime | None, policy: str = "daily"
) -> str:
    """When the predicted purchases would happen and where the data ends, in the shop's local time.

    Args:
        as_of: the cut-off, aware.
        task: horizon and zone.
        newest: time of the newest event, aware; later ones than `as_of` are not used. None without events.
        policy: with `first-visit` every user has a window of their own.

    >>> from datetime import UTC
    >>> berlin = PredictionTask(timezone="Europe/Berlin")
    >>> newest = datetime(2025, 2, 19, 22, 28, tzinfo=UTC)
    >>> describe_window(datetime(2025, 2, 19, 23, tzinfo=UTC), berlin, newest)
    'buys between 20 Feb 00:00 and 21 Feb 00:00 Europe/Berlin; data until 19 Feb 23:28'
    """
    local, end = (_short_text(instant, task) for instant in (as_of, as_of + task.horizon))
    if policy == "first-visit":
        window = f"buys within {task.horizon_hours} h of a first visit before {local} {task.timezone}"
    else:
        window = f"buys between {local} and {end} {task.timezone}"
    return window if newest is None else f"{window}; data until {_short_text(min(newest, as_of), task)}"


def describe_training_windows(
    first: datetime, last: datetime, known_until: datetime, task: PredictionTask
) -> str:
    """Which label windows a training used, those of cut-offs from `first` to `last`, and why no later."""
    begin, end = _short_text(first, task), _short_text(last + task.horizon, task)
    return (
        f"learned who bought between {begin} and {end} {task.timezone}; "
        f"data until {_short_text(known_until, task)}, later label windows are not over"
    )


def _local_day(instant: datetime, zone_name: str) -> date:
    return instant.astimezone(zone(zone_name)).date()


def _short_text(instant: datetime, task: PredictionTask) -> str:
    """Day, month and time, such as `20 Feb 00:00`."""
    local = instant.astimezone(zone(task.timezone))
    return f"{local.day} {_MONTHS[local.month - 1]} {local:%H:%M}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""`%b` depends on the locale."""
