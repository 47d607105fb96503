"""The newest days, which a model has not seen: what is learnt from them without fitting its ranker again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError
from retail_core.model.dataset import (
    EMBARGO,
    EVALUATION_SALT,
    MAX_EVALUATION_ROWS,
    TrainingData,
    compute_feature_matrix,
)
from retail_core.model.labelled import LabelledRows, build_labelled_rows
from retail_core.model.sampling import Sampling
from retail_core.model.spec import ModelSpec
from retail_core.model.splits import (
    PERIODS,
    PeriodSplit,
    cutoffs_before,
    has_enough_days,
    time_blocks,
    user_hash_fraction,
)
from retail_core.schemas import TrainingRows
from retail_core.times import iso, parse_instant
from retail_core.workspace import Workspace

MAX_DAYS = 28
"""How far back the days go: what has changed is to be learnt, not what was."""
RECALIBRATION_PERIODS = PERIODS[1:]


def build_recalibration_data(workspace: Workspace, spec: ModelSpec, as_of: datetime) -> TrainingData:
    """Labelled rows that the ranker of `spec` cannot know, in three blocks, with their features.

    Raises:
        DataError: too few of them bought, or the primary policy lacks buyers in a block.
    """
    engine, task = workspace.engine, spec.feature_set.task
    labelled = build_labelled_rows(workspace.lake, task, spec.policies, as_of, engine)
    since = max(parse_instant(spec.data["as_of"]), labelled.known_until - timedelta(days=MAX_DAYS))
    rows: pd.DataFrame = labelled.rows[labelled.rows["as_of"] >= pd.Timestamp(since)].reset_index(drop=True)
    rows = rows[
        user_hash_fraction(rows["user_id"], EVALUATION_SALT) < MAX_EVALUATION_ROWS / max(1, len(rows))
    ]
    rows = rows.reset_index(drop=True)
    _refuse_too_few(rows, since, workspace.settings.min_buyers)
    rows, kind = _in_blocks(rows, task.horizon)
    known = _policies_with_both_classes(rows, spec)
    rows = rows[rows["policy"].isin(known)].reset_index(drop=True).assign(evaluated=True)
    places = {name: np.flatnonzero(rows["period"].eq(name)) for name in RECALIBRATION_PERIODS}
    split = PeriodSplit(kind, train=np.empty(0, np.intp), **places)
    whole = Sampling(1.0, 1.0)
    kept = LabelledRows(cast("DataFrame[TrainingRows]", rows), labelled.gaps, labelled.known_until)
    matrix = compute_feature_matrix(workspace.lake, rows, spec.feature_set, engine)
    return TrainingData(rows, matrix, spec.feature_set, (), split, whole, whole, kept, task)


def _refuse_too_few(rows: pd.DataFrame, since: datetime, least: int) -> None:
    buying = int(rows["label"].sum())
    if buying < least:
        raise DataError(
            f"Only {buying} rows of buyers are later than {iso(since)} and matured; {least} are needed.",
            remedy="wait for more days, or train again with `retail train`.",
        )


def _in_blocks(rows: pd.DataFrame, horizon: timedelta) -> tuple[pd.DataFrame, str]:
    """`period` for each row: successive days, an embargo between; below six days users dealt by hash."""
    block, times = time_blocks(rows, len(RECALIBRATION_PERIODS)), rows["as_of"]
    period = np.array(RECALIBRATION_PERIODS, dtype=object)[block]
    if not has_enough_days(rows, len(RECALIBRATION_PERIODS)):
        return rows.assign(period=list(period)), "user-disjoint"
    for number in range(1, len(RECALIBRATION_PERIODS)):
        near = ~cutoffs_before(times, times[block == number].min(), horizon)
        period[near & (block == number - 1)] = EMBARGO
    return rows.assign(period=list(period)), "successive"


def _policies_with_both_classes(rows: pd.DataFrame, spec: ModelSpec) -> list[str]:
    """Policies with buyers and others in each block.

    Raises:
        DataError: the primary policy is not among them.
    """
    answers = rows.groupby(["policy", "period"])["label"].nunique()
    known = [
        policy
        for policy in spec.policies
        if all(answers.get((policy, name), 0) == 2 for name in RECALIBRATION_PERIODS)
    ]
    if spec.primary not in known:
        raise DataError(
            f"The cut-off policy {spec.primary} has no buyers in one of the three blocks of later days.",
            remedy="wait for more days, or train again with `retail train`.",
        )
    return known
