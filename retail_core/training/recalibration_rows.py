"""Rows for a recalibration: the newest matured days, which the model's rankers were not fitted on.

Separate from `recalibration`, because the rows are split into earlier and judged days here.
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
    EVALUATION_SALT,
    MAX_EVALUATION_ROWS,
    TrainingData,
    compute_feature_matrix,
)
from retail_core.model.labelled import build_labelled_rows
from retail_core.model.sampling import Sampling
from retail_core.model.spec import ModelSpec
from retail_core.model.splits import PeriodSplit, user_hash_fraction
from retail_core.schemas import TrainingRows
from retail_core.times import iso, parse_instant
from retail_core.workspace import Workspace

MAX_DAYS = 28
"""Days before the end of the log that are used; older ones no longer represent the shop."""
EARLIER, JUDGED = RECALIBRATION_PERIODS = ("certify", "test")
"""Periods: the judged days are the newest ones, the earlier days those before them."""
JUDGED_BUYERS = 60
"""Rows of buyers that the judged days should have; they are at least two days and at most half of all."""
MIN_DAYS = 4


def build_recalibration_data(workspace: Workspace, spec: ModelSpec, as_of: datetime) -> TrainingData:
    """Labelled rows later than the training data of `spec`, as earlier and judged days, with their features.

    Raises:
        DataError: too few of them bought, too few days, or the primary policy lacks buyers in a period.
    """
    task = spec.feature_set.task
    labelled = build_labelled_rows(workspace.lake, task, spec.policies, as_of, workspace.engine)
    since = max(parse_instant(spec.data["as_of"]), labelled.known_until - timedelta(days=MAX_DAYS))
    rows: pd.DataFrame = labelled.rows[labelled.rows["as_of"] >= pd.Timestamp(since)].reset_index(drop=True)
    share = MAX_EVALUATION_ROWS / max(1, len(rows))
    rows = rows[user_hash_fraction(rows["user_id"], EVALUATION_SALT) < share].reset_index(drop=True)
    _refuse_too_few_buyers(rows, since, workspace.settings.min_buyers)
    rows = assign_periods(rows, spec.primary)
    policies = _policies_with_both_classes(rows, spec)
    rows = rows[rows["policy"].isin(policies)].reset_index(drop=True).assign(evaluated=True)
    positions = {name: np.flatnonzero(rows["period"].eq(name)) for name in RECALIBRATION_PERIODS}
    all_rows, empty = Sampling(1.0, 1.0), np.empty(0, np.intp)
    return TrainingData(
        rows=rows,
        matrix=compute_feature_matrix(workspace.lake, rows, spec.feature_set, workspace.engine),
        feature_set=spec.feature_set,
        dropped=(),
        split=PeriodSplit("successive", train=empty, calibrate=empty, **positions),
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


def assign_periods(rows: pd.DataFrame, primary: str) -> pd.DataFrame:
    """Rows with their `period`.

    Raises:
        DataError: fewer than `MIN_DAYS` days.
    """
    days = days_of(rows)
    buyers = (rows["label"] & rows["policy"].eq(primary)).groupby(days).sum()
    if len(buyers) < MIN_DAYS:
        raise DataError(
            f"Only {len(buyers)} days are later than the training data and matured; {MIN_DAYS} are needed.",
            remedy="wait for more days, or train again with `retail train`.",
        )
    newest_first = buyers.to_numpy()[::-1].cumsum()
    count = int((newest_first < JUDGED_BUYERS).sum()) + 1
    is_judged = days >= buyers.index[-max(2, min(count, len(buyers) // 2))]
    return rows.assign(period=np.where(is_judged, JUDGED, EARLIER))


def days_of(rows: pd.DataFrame) -> pd.Series:
    """UTC day of the cut-off of each row."""
    days: pd.Series = rows["as_of"].dt.floor("D")
    return days


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
            f"The cut-off policy {spec.primary} lacks buyers on the newest days or on those before.",
            remedy="wait for more days, or train again with `retail train`.",
        )
    return policies
