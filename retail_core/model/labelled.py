"""Labelled (user, cut-off) rows of one or several cut-off policies, read from the lake.

Separate from `dataset`, because the leakage guard and recalibration need labels without the four periods.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import cast

import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError, InputError
from retail_core.features.cutoffs.cutoff_plan import CutoffPlan, plan_cutoffs, read_log_coverage
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import IN_SESSION, daily_pairs, first_visit_pairs, in_session_pairs
from retail_core.features.engine import DUCKDB, EngineOptions, LakeReader
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import POLICIES, Pairs, TrainingRows
from retail_core.times import iso, zone

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """All rows whose label is known.

    Attributes:
        rows: `user_id, as_of, policy, label`, by time.
        gaps: days without events that count as outages; labels that touch them are unknown.
        quiet_days: days without events that count as real: nobody came, and labels are known.
        known_until: end of the log for these rows; later labels are unknown.
        admitted: user attributes to use even where they have no date.
    """

    rows: DataFrame[TrainingRows]
    gaps: tuple[date, ...]
    known_until: datetime
    admitted: tuple[str, ...] = ()
    quiet_days: tuple[date, ...] = ()


def build_labelled_rows(
    lake: LakeReader,
    task: PredictionTask,
    policies: Sequence[str],
    as_of: datetime,
    engine: EngineOptions = DUCKDB,
) -> LabelledRows:
    """Every row of the policies whose label is known at `as_of`: t + horizon <= `known_until`.

    `known_until` is `as_of`, or the end of the log where that is earlier.

    Raises:
        InputError: an unknown policy.
        DataError: there is no such row.
    """
    coverage = read_log_coverage(lake, as_of, task.timezone, engine)
    known_until = coverage.known_until
    if known_until < as_of:
        log.warning("The log ends at %s: no later label is known.", iso(known_until))
    plan = CutoffPlan((), ()) if set(policies) == {"first-visit"} else plan_cutoffs(coverage, task)
    last_day = known_until.astimezone(zone(task.timezone)).date()
    plan = replace(plan, gaps=tuple(day for day in plan.gaps if day <= last_day))
    frames = []
    for policy in policies:
        pairs = _policy_pairs(policy, lake, task, plan, known_until - task.horizon, engine)
        if len(pairs):
            frames.append(pairs[["user_id", "as_of"]].assign(policy=policy))
    if not frames:
        raise DataError(
            f"No user has a cut-off whose {task.horizon_hours} hours have passed.",
            remedy="ingest a longer log, or train with a later --as-of.",
        )
    rows = pd.concat(frames, ignore_index=True).drop_duplicates(["user_id", "as_of"], ignore_index=True)
    rows["policy"] = rows["policy"].astype("str")
    rows = rows.sort_values(["as_of", "user_id"], ignore_index=True)
    rows["label"] = label_pairs(lake, task, rows, known_until=known_until, engine=engine).to_numpy(bool)
    return LabelledRows(
        cast("DataFrame[TrainingRows]", rows), plan.gaps, known_until, quiet_days=plan.quiet_days
    )


def _policy_pairs(
    policy: str,
    lake: LakeReader,
    task: PredictionTask,
    plan: CutoffPlan,
    before: datetime,
    engine: EngineOptions,
) -> DataFrame[Pairs]:
    if policy == "daily":
        return daily_pairs(lake, task, plan.cutoffs, engine)
    if policy == IN_SESSION:
        return in_session_pairs(lake, task, plan, before, engine)
    if policy == "first-visit":
        return first_visit_pairs(lake, before, engine)
    raise InputError(
        f"There is no cut-off policy {policy!r} to train for.",
        remedy=f"use one or several of {', '.join(POLICIES)}.",
    )


def refuse_too_few_buyers(rows: pd.DataFrame, min_buyers: int) -> None:
    """Refuse rows with too few purchases to fit and evaluate a model.

    Raises:
        DataError: no purchases, fewer than `min_buyers` of them, or fewer than half as many buying users.
    """
    bought = rows["label"]
    positives, buyers = int(bought.sum()), int(rows["user_id"][bought].nunique())
    population = f"{len(rows):,} labelled rows of {rows['user_id'].nunique():,} users"
    if positives == 0:
        raise DataError(
            f"There are no purchases within the horizon in {population}.",
            remedy="check the preset's event names, or ingest a log with purchases.",
        )
    if positives < min_buyers or buyers < min_buyers // 2:
        raise DataError(
            f"There are only {positives} purchases by {buyers} users in {population}; at least {min_buyers} "
            f"by {min_buyers // 2} users are needed.",
            remedy="ingest more users or a longer log.",
        )
