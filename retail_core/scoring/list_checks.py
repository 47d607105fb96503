"""Checks of a list before it is used: whether the log behind it is late, and whether it is unusually short.

A log that has stopped, or goes on with a small part of its events, still gives a list, of fewer and less
probable users. These checks say so, and `RETAIL_STALE_LOG=refuse` makes an error of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from retail_core.errors import DataError
from retail_core.features.arrival_minutes import active_minutes
from retail_core.features.engine import EngineOptions, LakeReader, open_engine
from retail_core.features.prediction_task import PredictionTask
from retail_core.log_rhythm import RHYTHM_PERIOD, Lateness, learn_rhythm
from retail_core.model.spec import ModelSpec
from retail_core.sources.calendar_file import DayKind
from retail_core.store.mongo.deliveries import delivery_silences
from retail_core.store.mongo.shop_calendar import announced_days
from retail_core.times import iso, to_micros
from retail_core.workspace import Workspace

PAST_WEEKS = 4
"""A list is compared with those that the cut-offs 1 to 4 weeks earlier would have had."""

MIN_PAST_LISTS = 2
SHORT_LIST = 0.6
"""A list is short below this share of the usual number of users, if that is more than chance."""

FEW_BUYERS = 1 / 3
"""Few buyers are expected below this share of the usual number of users times the model's base rate."""

_MIN_USUAL_BUYERS = 10
_STANDARD_ERRORS = 4
_ONE_WEEK, _ONE_MILLISECOND = timedelta(days=7), timedelta(milliseconds=1)


@dataclass(frozen=True)
class LogLateness:
    """The newest event before an instant, and the silence since then; None where the past is too short."""

    newest: datetime
    silence: Lateness | None


@dataclass(frozen=True)
class ListSizes:
    """Users with an event in the eligibility window before a cut-off, and before those of past weeks."""

    now: int
    past: tuple[int, ...]

    @property
    def usual(self) -> float:
        """Median of the past weeks; 0 where there are too few."""
        return float(np.median(self.past)) if len(self.past) >= MIN_PAST_LISTS else 0.0

    @property
    def is_short(self) -> bool:
        """Whether the list is far below the usual size, by more than chance."""
        if not self.usual:
            return False
        dispersion = max(1.0, float(np.var(self.past, ddof=1)) / self.usual)
        chance = _STANDARD_ERRORS * math.sqrt(self.usual * dispersion)
        return self.now < SHORT_LIST * self.usual and self.now < self.usual - chance


def log_lateness(workspace: Workspace, at: datetime, since: datetime | None = None) -> LogLateness | None:
    """How long the log has been silent at `at`, against its own rhythm; None without events.

    The rhythm is that of the 56 days before the newest event and, for a log that arrives in files, of the
    deliveries of the 56 days before `at`. Announced closed days are left out; nothing is expected on them.

    Args:
        workspace: the workspace.
        at: aware; later events do not count.
        since: aware; the log counts as silent from here on, although there are some events.
    """
    lake = workspace.lake.snapshot()
    newest = lake.state(at).newest_event if since is None else since
    if newest is None:
        return None
    days = announced_days(workspace.store)
    closed = [day for day, kind in days.items() if kind is DayKind.CLOSED]
    minutes = active_minutes(lake, newest - RHYTHM_PERIOD, newest + _ONE_MILLISECOND, workspace.engine)
    rhythm = learn_rhythm(minutes, workspace.zone, closed)
    if rhythm is None:
        return LogLateness(newest, None)
    silences = delivery_silences(workspace.store, at - RHYTHM_PERIOD, at)
    return LogLateness(newest, rhythm.with_deliveries(silences).lateness(newest, at))


def list_sizes(
    lake: LakeReader, task: PredictionTask, as_of: datetime, first_event: datetime, engine: EngineOptions
) -> ListSizes:
    """Sizes of the list at `as_of` (aware) and of those 1 to `PAST_WEEKS` weeks earlier, as the log has them.

    Args:
        lake: the events.
        task: its eligibility window.
        as_of: the cut-off, aware.
        first_event: begin of the log; weeks whose eligibility window begins earlier are left out.
        engine: runs the query.
    """
    ends = [as_of - _ONE_WEEK * n for n in range(PAST_WEEKS + 1)]
    window = timedelta(days=task.eligible_days)
    with open_engine(engine) as query_engine:
        events = query_engine.events(lake, ends[-1] - window, as_of)
        counts = events.agg(
            **{
                f"n{number}": events.user_id.nunique(
                    where=(events.ts >= to_micros(end - window)) & (events.ts < to_micros(end))
                )
                for number, end in enumerate(ends)
            }
        )
        row = query_engine.to_arrow(counts).to_pylist()[0]
    sizes = [int(row[f"n{number}"]) for number in range(len(ends))]
    past = [
        size for size, end in zip(sizes, ends, strict=True) if end < as_of and end - window >= first_event
    ]
    return ListSizes(sizes[0], tuple(past))


def check_list(
    workspace: Workspace, spec: ModelSpec, as_of: datetime, expected_buyers: float, now: datetime | None
) -> tuple[str, ...]:
    """What is wrong with a list, in one sentence each; nothing for a usual one.

    Args:
        workspace: the workspace.
        spec: the model that made the list.
        as_of: cut-off of the list, aware.
        expected_buyers: sum of the list's probabilities.
        now: instant that the log should reach, aware; None: `as_of`.

    Raises:
        DataError: something is wrong, and `RETAIL_STALE_LOG` is `refuse`.
    """
    lateness = log_lateness(workspace, as_of if now is None else max(now, as_of))
    warnings = [] if lateness is None else late_log_warnings(lateness)
    first_event = workspace.lake.state().first_event
    if spec.primary == "daily" and first_event is not None:
        task = spec.feature_set.task
        sizes = list_sizes(workspace.lake.snapshot(), task, as_of, first_event, workspace.engine)
        warnings += short_list_warnings(sizes, expected_buyers, spec.base_rate)
    if warnings and workspace.settings.stale_log == "refuse":
        raise DataError(
            f"The list was refused. {' '.join(warnings)}",
            remedy="ingest the missing events, or set RETAIL_STALE_LOG=warn.",
        )
    return tuple(warnings)


def late_log_warnings(lateness: LogLateness) -> list[str]:
    """A sentence if the log is late."""
    silence = lateness.silence
    if silence is None or not silence.is_late:
        return []
    return [
        f"The log is late: its newest event is of {iso(lateness.newest)}, {silence.hours:,.0f} h ago; usual "
        f"silences end within {silence.limit_hours:,.0f} h."
    ]


def short_list_warnings(sizes: ListSizes, expected_buyers: float, base_rate: float) -> list[str]:
    """Sentences if there are far fewer users, or expected buyers, than in the past weeks."""
    warnings = []
    if sizes.is_short:
        warnings.append(
            f"The list is short: {sizes.now:,} users were active in the eligibility window, "
            f"{sizes.usual:,.0f} are usual ({_joined(sizes.past)} in the past weeks)."
        )
    usual_buyers = sizes.usual * base_rate
    if usual_buyers >= _MIN_USUAL_BUYERS and expected_buyers < FEW_BUYERS * usual_buyers:
        warnings.append(f"Few buyers are expected: {expected_buyers:,.1f}, {usual_buyers:,.0f} are usual.")
    return warnings


def _joined(sizes: Sequence[int]) -> str:
    return ", ".join(f"{size:,}" for size in sizes)
