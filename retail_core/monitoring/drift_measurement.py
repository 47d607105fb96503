"""Drift of the population: today's eligible users against those that the production model was trained on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.arrays import Float32Array
from retail_core.features.cutoffs.cutoff_plan import labelled_cutoffs
from retail_core.features.cutoffs.policies import daily_pairs, first_visit_pairs
from retail_core.features.definitions import expand_definitions
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.features.kinds import Clock, Context
from retail_core.model.dataset import compute_feature_matrix
from retail_core.model.explanations.contributions import ranked_importance
from retail_core.model.feature_matrix import MISSING
from retail_core.model.served_model import ServedModel
from retail_core.model.splits import user_hash_fraction
from retail_core.monitoring.drift_statistics import SCORE, FeatureDrift, feature_drifts
from retail_core.schemas import Pairs
from retail_core.times import last_midnight, midnights, parse_instant, zone

WINDOW_DAYS = 3
NEWEST_WINDOWS = 2
REFERENCE_WINDOWS = 5
MIN_ROWS = 200
"""Smallest window that is compared."""
MAX_ROWS = 3_000
"""Largest number of rows compared per window; above it users are sampled by hash."""
MAX_GAPS = 2
"""Drift is not measured with more outages than this among the newest days: they change sums over a week."""
_GAP_REACH = 2 * WINDOW_DAYS + 2


@dataclass(frozen=True)
class DriftMeasurement:
    """Drift of every feature and of the score.

    Attributes:
        drifts: drifted ones first, then by PSI relative to the limit; empty where nothing was measured.
        population: description of the compared rows.
        unavailable: why drift could not be measured; None where it was.
    """

    drifts: list[FeatureDrift]
    population: str
    unavailable: str | None = None


def measure_drift(
    lake: LakeReader,
    served: ServedModel,
    as_of: datetime,
    engine: EngineOptions,
    announced: Collection[date] = (),
) -> DriftMeasurement:
    """Compare the users at the newest six midnights with those at the last fifteen of the training data.

    Clock and context features are left out: they are equal for all users of a cut-off. Midnights after a day
    that is announced, regularly closed or without events are left out, in both periods: the features of
    the last day would show the calendar or an outage, not the users.

    Args:
        lake: the events, pinned to one state.
        served: the model in production.
        as_of: aware; only midnights up to it are used.
        engine: computes the features.
        announced: local days of the shop's calendar.
    """
    spec = served.spec
    task, min_midnights = spec.feature_set.task, NEWEST_WINDOWS * WINDOW_DAYS
    last_trained = last_midnight(parse_instant(spec.data["as_of"]) - task.horizon, task.timezone)
    newest = last_midnight(as_of, task.timezone)
    skipped = SkippedDays.read(lake, served, newest, engine, announced)
    later_midnights = len(
        usable_midnights(last_trained + timedelta(seconds=1), newest, task.timezone, skipped)
    )
    if later_midnights < min_midnights:
        return _unavailable(f"{later_midnights} midnights since the training data, {min_midnights} needed")
    if len(gaps := skipped.recent_gaps(newest, task.timezone)) > MAX_GAPS:
        return _unavailable(f"the log has gaps on {len(gaps)} of the newest {_GAP_REACH} days")
    reference, recent = (
        [
            _pairs(lake, served, window, engine)
            for window in midnight_windows(end, count, task.timezone, skipped)
        ]
        for end, count in ((last_trained, REFERENCE_WINDOWS), (newest, NEWEST_WINDOWS))
    )
    reference = [pairs for pairs in reference if len(pairs) >= MIN_ROWS]
    smallest = min((len(pairs) for pairs in recent), default=0)
    if len(reference) < 2 or smallest < MIN_ROWS:
        return _unavailable(
            f"{len(reference)} reference windows of at least {MIN_ROWS} rows, {smallest} rows now"
        )
    windows = [*reference, *recent]
    matrix = compute_feature_matrix(lake, pd.concat(windows, ignore_index=True), spec.feature_set, engine)
    ends = np.cumsum([len(pairs) for pairs in windows])[:-1]
    drifts = _drifts(served, np.split(matrix, ends), len(reference))
    population = (
        f"{sum(map(len, recent)):,} rows of six midnights up to {newest:%Y-%m-%d}, {len(reference)} windows "
        f"of {sum(map(len, reference)):,} rows up to {last_trained:%Y-%m-%d}"
    )
    return DriftMeasurement(drifts, population)


def _unavailable(reason: str) -> DriftMeasurement:
    return DriftMeasurement([], "", reason)


@dataclass(frozen=True)
class SkippedDays:
    """Local days whose following midnight is not compared.

    Attributes:
        announced: days of the calendar, and those without events that are real.
        gaps: outages.
        closed_weekdays: 0 = Monday.
    """

    announced: frozenset[date]
    gaps: tuple[date, ...]
    closed_weekdays: tuple[int, ...]

    @classmethod
    def read(
        cls,
        lake: LakeReader,
        served: ServedModel,
        newest: datetime,
        engine: EngineOptions,
        announced: Collection[date],
    ) -> SkippedDays:
        """The days of the log up to `newest`; a policy of own cut-offs per user has no outages."""
        if served.spec.primary == "first-visit":
            return cls(frozenset(announced), (), ())
        plan = labelled_cutoffs(lake, served.spec.feature_set.task, newest, engine)
        gaps = tuple(day for day in plan.gaps if day not in announced)
        return cls(frozenset({*announced, *plan.quiet_days}), gaps, plan.closed_weekdays)

    def recent_gaps(self, newest: datetime, zone_name: str) -> list[date]:
        """Outages among the days whose absence would change the features of the newest windows."""
        first = (newest - timedelta(days=_GAP_REACH)).astimezone(zone(zone_name)).date()
        return [day for day in self.gaps if day >= first]

    def __contains__(self, day: date) -> bool:
        """Whether the midnight after `day` is left out."""
        return day in self.announced or day in self.gaps or day.weekday() in self.closed_weekdays


def usable_midnights(first: datetime, last: datetime, zone_name: str, skipped: SkippedDays) -> list[datetime]:
    """Midnights in [first, last] whose day before is not skipped."""
    local, day = zone(zone_name), timedelta(days=1)
    return [t for t in midnights(first, last, zone_name) if t.astimezone(local).date() - day not in skipped]


def midnight_windows(end: datetime, count: int, zone_name: str, skipped: SkippedDays) -> list[list[datetime]]:
    """The last `count` windows of `WINDOW_DAYS` usable midnights up to `end`, ascending."""
    first = end - timedelta(days=2 * count * WINDOW_DAYS + 1)
    days = usable_midnights(first, end, zone_name, skipped)[-count * WINDOW_DAYS :]
    days = days[len(days) % WINDOW_DAYS :]
    return [days[start : start + WINDOW_DAYS] for start in range(0, len(days), WINDOW_DAYS)]


def _pairs(
    lake: LakeReader, served: ServedModel, window: Sequence[datetime], engine: EngineOptions
) -> DataFrame[Pairs]:
    """Eligible users at the midnights of the window; for `first-visit`, the new users of its days."""
    spec, task = served.spec, served.spec.feature_set.task
    if spec.primary == "first-visit":
        pairs = first_visit_pairs(lake, window[-1], engine)
        pairs = pairs[pairs["as_of"] > window[0] - timedelta(days=1)]
    else:
        pairs = daily_pairs(lake, task, window, engine)
    if len(pairs) > MAX_ROWS:
        pairs = pairs[user_hash_fraction(pairs["user_id"], "drift") < MAX_ROWS / len(pairs)]
    return pairs.assign(policy=spec.primary).reset_index(drop=True)


def _drifts(
    served: ServedModel, windows: Sequence[Float32Array], reference_windows: int
) -> list[FeatureDrift]:
    """Drift of the user features and of the score; drifted ones first, then by PSI relative to the limit."""
    columns = served.spec.feature_set.columns
    reference_rows = np.concatenate(windows[:reference_windows])
    importance = dict(ranked_importance(served.estimator, columns, reference_rows))
    definitions = expand_definitions(served.spec.feature_set.task)
    shared = {name for name, feature in definitions.items() if isinstance(feature.kind, Clock | Context)}
    indices = [index for index, name in enumerate(columns) if name not in shared]
    names = [columns[index] for index in indices]
    compared = [
        np.column_stack(
            [
                np.where(window[:, indices] == MISSING, np.nan, window[:, indices]),
                served.estimator.raw_score(window),
            ]
        )
        for window in windows
    ]
    drifts = feature_drifts(
        compared[:reference_windows],
        compared[reference_windows:],
        {name: importance[name] for name in names} | {SCORE: 0.0},
    )
    return sorted(drifts, key=lambda drift: (-drift.drifted, -drift.psi / drift.limit))
