"""Rows for a recalibration: the newest matured days, which the model's rankers were not fitted on.

Separate from `recalibration`, because the rows are split into blocks of their own.
"""

from __future__ import annotations

from dataclasses import replace
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
from retail_core.model.labelled import build_labelled_rows
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
"""Days before the end of the log that are used; older ones no longer represent the shop."""
RECALIBRATION_PERIODS = PERIODS[1:]


def build_recalibration_data(workspace: Workspace, spec: ModelSpec, as_of: datetime) -> TrainingData:
    """Labelled rows later than the training data of `spec`, in three periods, with their features.

    Raises:
        DataError: too few of them bought, or the primary policy lacks buyers in a period.
    """
    task = spec.feature_set.task
    labelled = build_labelled_rows(workspace.lake, task, spec.policies, as_of, workspace.engine)
    since = max(parse_instant(spec.data["as_of"]), labelled.known_until - timedelta(days=MAX_DAYS))
    rows: pd.DataFrame = labelled.rows[labelled.rows["as_of"] >= pd.Timestamp(since)].reset_index(drop=True)
    share = MAX_EVALUATION_ROWS / max(1, len(rows))
    rows = rows[user_hash_fraction(rows["user_id"], EVALUATION_SALT) < share].reset_index(drop=True)
    _refuse_too_few_buyers(rows, since, workspace.settings.min_buyers)
    rows, kind = _assign_periods(rows, task.horizon)
    policies = _policies_with_both_classes(rows, spec)
    rows = rows[rows["policy"].isin(policies)].reset_index(drop=True).assign(evaluated=True)
    positions = {name: np.flatnonzero(rows["period"].eq(name)) for name in RECALIBRATION_PERIODS}
    all_rows = Sampling(1.0, 1.0)
    return TrainingData(
        rows=rows,
        matrix=compute_feature_matrix(workspace.lake, rows, spec.feature_set, workspace.engine),
        feature_set=spec.feature_set,
        dropped=(),
        split=PeriodSplit(kind, train=np.empty(0, np.intp), **positions),
        fit_sampling=all_rows,
        refit_sampling=all_rows,
        labelled=replace(labelled, rows=cast("DataFrame[TrainingRows]", rows)),
        task=task,
    )


def _refuse_too_few_buyers(rows: pd.DataFrame, since: datetime, min_buyers: int) -> None:
    buying = int(rows["label"].sum())
    if buying < min_buyers:
        raise DataError(
            f"Only {buying} rows of buyers are later than {iso(since)} and matured; {min_buyers} are needed.",
            remedy="wait for more days, or train again with `retail train`.",
        )


def _assign_periods(rows: pd.DataFrame, horizon: timedelta) -> tuple[pd.DataFrame, str]:
    """Rows with their `period`, and the kind of the split.

    Periods are successive days with an embargo between them; below six days users are assigned by hash.
    """
    block, times = time_blocks(rows, len(RECALIBRATION_PERIODS)), rows["as_of"]
    period = np.array(RECALIBRATION_PERIODS, dtype=object)[block]
    if not has_enough_days(rows, len(RECALIBRATION_PERIODS)):
        return rows.assign(period=list(period)), "user-disjoint"
    for number in range(1, len(RECALIBRATION_PERIODS)):
        too_late = ~cutoffs_before(times, times[block == number].min(), horizon)
        period[too_late & (block == number - 1)] = EMBARGO
    return rows.assign(period=list(period)), "successive"


def _policies_with_both_classes(rows: pd.DataFrame, spec: ModelSpec) -> list[str]:
    """Policies with buyers and non-buyers in each period.

    Raises:
        DataError: the primary policy is not among them.
    """
    classes = rows.groupby(["policy", "period"])["label"].nunique()
    policies = [
        policy
        for policy in spec.policies
        if all(classes.get((policy, name), 0) == 2 for name in RECALIBRATION_PERIODS)
    ]
    if spec.primary not in policies:
        raise DataError(
            f"The cut-off policy {spec.primary} has no buyers in one of the three blocks of later days.",
            remedy="wait for more days, or train again with `retail train`.",
        )
    return policies
