"""From the lake to labelled (user, cut-off) rows, of one cut-off policy or several."""

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
    """All labelled (user, cut-off) rows: `user_id, as_of, policy, label`.

    `gaps` are the days of the log that were gaps; `known_until` is where the log ended for these rows.
    Attributes in `admitted` are used even where they have no date.
    """

    rows: DataFrame[TrainingRows]
    gaps: tuple[date, ...]
    known_until: datetime
    admitted: tuple[str, ...] = ()


def build_labelled_rows(
    lake: LakeReader,
    question: PredictionTask,
    policies: Sequence[str],
    as_of: datetime,
    engine: EngineOptions = DUCKDB,
) -> LabelledRows:
    """Every row whose label is known at `as_of`, of all policies, by time.

    Known means that the log is: t + horizon <= `features.span.known_until`, which is never later than
    `as_of`, and earlier where the log ends earlier.

    Raises:
        InputError: an unknown policy.
        DataError: there is no such row.
    """
    span = read_log_coverage(lake, as_of, question.timezone, engine)
    if span.known_until < as_of:
        log.warning("The log ends at %s: no later label is known.", iso(span.known_until))
    plan = CutoffPlan((), ()) if set(policies) == {"first-visit"} else plan_cutoffs(span, question)
    last_day = span.known_until.astimezone(zone(question.timezone)).date()
    plan = replace(plan, gaps=tuple(day for day in plan.gaps if day <= last_day))
    parts = []
    for policy in policies:
        pairs = _pairs_of(policy, lake, question, plan, span.known_until - question.horizon, engine)
        if len(pairs):
            parts.append(pairs[["user_id", "as_of"]].assign(policy=policy))
    if not parts:
        raise DataError(
            f"No user has a cut-off whose {question.horizon_hours} hours have passed.",
            remedy="ingest a longer log, or train with a later --as-of.",
        )
    rows = pd.concat(parts, ignore_index=True).drop_duplicates(["user_id", "as_of"], ignore_index=True)
    rows["policy"] = rows["policy"].astype("str")
    rows = rows.sort_values(["as_of", "user_id"], ignore_index=True)
    known = span.known_until
    rows["label"] = label_pairs(lake, question, rows, known_until=known, engine=engine).to_numpy(bool)
    return LabelledRows(cast("DataFrame[TrainingRows]", rows), plan.gaps, known)


def _pairs_of(
    policy: str,
    lake: LakeReader,
    question: PredictionTask,
    plan: CutoffPlan,
    before: datetime,
    engine: EngineOptions,
) -> DataFrame[Pairs]:
    if policy == "daily":
        return daily_pairs(lake, question, plan.cutoffs, engine)
    if policy == IN_SESSION:
        return in_session_pairs(lake, question, plan, before, engine)
    if policy == "first-visit":
        return first_visit_pairs(lake, before, engine)
    raise InputError(
        f"There is no cut-off policy {policy!r} to train for.",
        remedy=f"use one or several of {', '.join(POLICIES)}.",
    )


def refuse_too_few_buyers(rows: pd.DataFrame, min_buyers: int) -> None:
    """Refuse data on which no honest model can be made.

    Raises:
        DataError: no purchases, or fewer than `min_buyers` rows or users that buy.
    """
    bought = rows["label"]
    positives, buyers = int(bought.sum()), int(rows["user_id"][bought].nunique())
    told = f"{len(rows):,} labelled rows of {rows['user_id'].nunique():,} users"
    if positives == 0:
        raise DataError(
            f"There are no purchases within the horizon in {told}.",
            remedy="check the preset's event names, or ingest a log with purchases.",
        )
    if positives < min_buyers or buyers < min_buyers // 2:
        raise DataError(
            f"There are only {positives} purchases by {buyers} users in {told}; at least {min_buyers} by "
            f"{min_buyers // 2} users are needed.",
            remedy="ingest more users or a longer log.",
        )
