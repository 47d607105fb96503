"""Who the production model is asked about now, beside those it learnt from."""

from __future__ import annotations

from collections.abc import Sequence
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
from retail_core.monitoring.drift import SCORE, Shift, shifts
from retail_core.schemas import Pairs
from retail_core.times import last_midnight, midnights, parse_instant, zone

WINDOW_DAYS = 3
REFERENCE_WINDOWS = 5
MIN_ROWS = 200
MAX_ROWS = 3_000
"""Rows of a window that are looked at: those of a hashed share of the users."""


@dataclass(frozen=True)
class Drift:
    """What has moved, largest first in proportion to its limit; or why nothing can be said.

    `population` names the rows that were compared.
    """

    found: list[Shift]
    population: str
    lacking: str | None = None


def measure_drift(lake: LakeReader, served: ServedModel, as_of: datetime, engine: EngineOptions) -> Drift:
    """Compare the users at the newest six midnights with those at the last fifteen the model learnt from.

    Features that say when the cut-off is, or what the shop is like, are left out: they are the same for
    all users of a cut-off.
    """
    spec = served.spec
    question = spec.feature_set.task
    learnt = last_midnight(parse_instant(spec.data["as_of"]) - question.horizon, question.timezone)
    newest = last_midnight(as_of, question.timezone)
    since = len(list(midnights(learnt, newest, question.timezone))) - 1
    if since < 2 * WINDOW_DAYS:
        return Drift([], "", f"{since} midnights since the last one learnt from, {2 * WINDOW_DAYS} needed")
    if silent := _silent_days(lake, served, newest, engine):
        return Drift([], "", f"the log has a gap on {silent[-1]}")
    reference, recent = (
        [_pairs(lake, served, window, engine) for window in _windows(end, count, question.timezone)]
        for end, count in ((learnt, REFERENCE_WINDOWS), (newest, 2))
    )
    reference = [part for part in reference if len(part) >= MIN_ROWS]
    smallest = min(len(part) for part in recent)
    if len(reference) < 2 or smallest < MIN_ROWS:
        told = f"{len(reference)} windows of at least {MIN_ROWS} rows to compare with, {smallest} rows now"
        return Drift([], "", told)
    parts = [*reference, *recent]
    matrix = compute_feature_matrix(lake, pd.concat(parts, ignore_index=True), spec.feature_set, engine)
    ends = np.cumsum([len(part) for part in parts])[:-1]
    found = _shifts(served, np.split(matrix, ends), len(reference))
    told = (
        f"{sum(map(len, recent)):,} rows of six midnights up to {newest:%Y-%m-%d}, {len(reference)} windows"
    )
    return Drift(found, f"{told} of {sum(map(len, reference)):,} rows up to {learnt:%Y-%m-%d}")


def _silent_days(
    lake: LakeReader, served: ServedModel, newest: datetime, engine: EngineOptions
) -> list[date]:
    """Gaps that the newest windows' shortest features would show; an outage is no drift."""
    question = served.spec.feature_set.task
    if served.spec.primary == "first-visit":
        return []
    first = (newest - timedelta(days=2 * WINDOW_DAYS + 2)).astimezone(zone(question.timezone)).date()
    plan = labelled_cutoffs(lake, question, newest, engine)
    return [day for day in plan.gaps if day >= first]


def _windows(end: datetime, count: int, zone: str) -> list[list[datetime]]:
    """The last `count` runs of `WINDOW_DAYS` midnights up to `end`, ascending."""
    days = list(midnights(end - timedelta(days=count * WINDOW_DAYS + 1), end, zone))[-count * WINDOW_DAYS :]
    return [days[start : start + WINDOW_DAYS] for start in range(0, len(days), WINDOW_DAYS)]


def _pairs(
    lake: LakeReader, served: ServedModel, window: Sequence[datetime], engine: EngineOptions
) -> DataFrame[Pairs]:
    """Eligible users at the midnights; of `first-visit`, those who came first in the same days."""
    spec, question = served.spec, served.spec.feature_set.task
    if spec.primary == "first-visit":
        pairs = first_visit_pairs(lake, window[-1], engine)
        pairs = pairs[pairs["as_of"] > window[0] - timedelta(days=1)]
    else:
        pairs = daily_pairs(lake, question, window, engine)
    if len(pairs) > MAX_ROWS:
        pairs = pairs[user_hash_fraction(pairs["user_id"], "drift") < MAX_ROWS / len(pairs)]
    return pairs.assign(policy=spec.primary).reset_index(drop=True)


def _shifts(served: ServedModel, windows: Sequence[Float32Array], reference: int) -> list[Shift]:
    """Shifts of the features that tell users apart, and of the score, the most striking first."""
    columns = served.spec.feature_set.columns
    pooled = np.concatenate(windows[:reference])
    importance = dict(ranked_importance(served.estimator, columns, pooled))
    known = expand_definitions(served.spec.feature_set.task)
    shared = {name for name, one in known.items() if isinstance(one.kind, Clock | Context)}
    kept = [place for place, name in enumerate(columns) if name not in shared]
    weights = {columns[place]: importance[columns[place]] for place in kept} | {SCORE: 0.0}
    scored = [
        np.column_stack(
            [np.where(one[:, kept] == MISSING, np.nan, one[:, kept]), served.estimator.raw_score(one)]
        )
        for one in windows
    ]
    found = shifts(scored[:reference], scored[reference:], weights)
    return sorted(found, key=lambda one: (-one.drifted, -one.psi / one.limit))
