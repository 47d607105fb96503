"""The data of a training: labelled rows split into periods and sampled, and the features of those used.

Features are computed in chunks, and only for rows that are fitted or evaluated, so that memory stays bounded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.arrays import BoolArray, Float32Array, IndexArray
from retail_core.features.batch.attribute_columns import infer_attributes
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.engine import EngineOptions, LakeReader
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.labelled import LabelledRows, refuse_too_few_buyers
from retail_core.model.sampling import Sampling, plan_sampling
from retail_core.model.splits import (
    PERIODS,
    PeriodSplit,
    refuse_periods_without_buyers,
    split_into_periods,
    user_hash_fraction,
)
from retail_core.schemas import POLICIES, Pairs
from retail_core.settings import Settings

EMBARGO = "embargo"
MAX_EVALUATION_ROWS = 400_000
"""Rows of the later periods that get features; above it users are sampled by hash, with all their rows."""
EVALUATION_SALT = "judged"
"""Salt of that hash; another value would evaluate every model on other users."""
CHUNK_ROWS = 100_000

log = logging.getLogger(__name__)

RowProgress = Callable[[int, int], None]
"""Called with the number of rows done and in total."""


@dataclass(frozen=True)
class TrainingData:
    """Rows and features of a training; `rows` and `matrix` are aligned.

    Attributes:
        rows: `user_id, as_of, policy, label, period` and the flags `fit`, `refit` and `evaluated`.
        matrix: features of `rows`, shape (rows, features), columns in the order of `feature_set`.
        feature_set: features that are not constant.
        dropped: columns left out because they are constant.
        split: positions of the periods in `labelled.rows`.
        fit_sampling: sampling of the train period, for the evaluation model.
        refit_sampling: sampling of all rows, for the served model.
        labelled: every labelled row, with or without features.
        task: the prediction task.
    """

    rows: pd.DataFrame
    matrix: Float32Array
    feature_set: FeatureSet
    dropped: tuple[str, ...]
    split: PeriodSplit
    fit_sampling: Sampling
    refit_sampling: Sampling
    labelled: LabelledRows
    task: PredictionTask

    def take(self, mask: BoolArray) -> tuple[pd.DataFrame, Float32Array]:
        """Rows and features where `mask` is true."""
        return self.rows[mask], self.matrix[mask]

    @property
    def policies(self) -> tuple[str, ...]:
        """Cut-off policies that have rows, the primary one first."""
        return policies_of(self.rows)

    def columns_of(self, matrix: Float32Array, names: Sequence[str]) -> pd.DataFrame:
        """Columns of `matrix` by name; constant columns, which were dropped, are left out."""
        columns = self.feature_set.columns
        return pd.DataFrame({name: matrix[:, columns.index(name)] for name in names if name in columns})


def policies_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Cut-off policies that have rows, in the order of `POLICIES`."""
    present = set(rows["policy"])
    return tuple(policy for policy in POLICIES if policy in present)


def build_training_data(
    lake: LakeReader,
    labelled: LabelledRows,
    task: PredictionTask,
    settings: Settings,
    *,
    as_of: datetime,
    advance: RowProgress | None = None,
) -> TrainingData:
    """Split and sample labelled rows, and compute the features of those that are used.

    Args:
        lake: events and user attributes.
        labelled: rows of every policy.
        task: the prediction task of the features.
        settings: sample sizes, seed, engine and the fewest buyers.
        as_of: user attributes count as known at this instant.
        advance: called after each chunk of features.

    Raises:
        DataError: too little data, see `refuse_too_few_buyers`, `splits.split_into_periods` and
            `splits.refuse_periods_without_buyers`.
    """
    planned = plan_training_rows(labelled, task, settings)
    undated = set(planned.labelled.rows["policy"]) == {"first-visit"}
    attributes = infer_attributes(lake, as_of, include_undated=undated, admit=labelled.admitted)
    feature_set = default_feature_set(task, attributes)
    engine = EngineOptions.from_settings(settings)
    matrix = compute_feature_matrix(lake, planned.rows, feature_set, engine, advance)
    return planned.with_features(matrix, feature_set, task)


@dataclass(frozen=True)
class PlannedRows:
    """Rows of a training before their features are known; attributes as in `TrainingData`."""

    rows: pd.DataFrame
    split: PeriodSplit
    fit_sampling: Sampling
    refit_sampling: Sampling
    labelled: LabelledRows

    def with_features(
        self, matrix: Float32Array, feature_set: FeatureSet, task: PredictionTask
    ) -> TrainingData:
        """The data of the training, without constant columns.

        Args:
            matrix: features of `rows`, columns in the order of `feature_set`.
            feature_set: every feature.
            task: the prediction task.
        """
        varying = _varying_columns(matrix)
        columns = list(zip(feature_set.columns, varying, strict=True))
        return TrainingData(
            rows=self.rows,
            matrix=matrix[:, varying],
            feature_set=feature_set.select([name for name, varies in columns if varies]),
            dropped=tuple(name for name, varies in columns if not varies),
            split=self.split,
            fit_sampling=self.fit_sampling,
            refit_sampling=self.refit_sampling,
            labelled=self.labelled,
            task=task,
        )


def plan_training_rows(labelled: LabelledRows, task: PredictionTask, settings: Settings) -> PlannedRows:
    """Split labelled rows into periods and sample those that are fitted.

    Raises:
        DataError: too little data, see `build_training_data`.
    """
    refuse_too_few_buyers(labelled.rows, settings.min_buyers)
    labelled, split = _split_policies_into_periods(labelled, task)
    refuse_periods_without_buyers(labelled.rows, split, policies_of(labelled.rows)[0])
    rows, fit_sampling, refit_sampling = _mark_used_rows(labelled.rows, split, settings)
    return PlannedRows(rows, split, fit_sampling, refit_sampling, labelled)


def _mark_used_rows(
    labelled: pd.DataFrame, split: PeriodSplit, settings: Settings
) -> tuple[pd.DataFrame, Sampling, Sampling]:
    """Rows that are fitted, refitted or evaluated, with a flag for each; and the samplings of both fits."""
    train = np.zeros(len(labelled), bool)
    train[split.train] = True
    labels = labelled["label"].to_numpy(bool)
    fit_sampling = plan_sampling(labels[train], settings.fit_rows)
    refit_sampling = plan_sampling(labels, settings.fit_rows)
    rows = labelled.assign(
        period=_period_names(split, len(labelled)),
        fit=train & fit_sampling.select(labelled, settings.seed),
        refit=refit_sampling.select(labelled, settings.seed),
    )
    rows["evaluated"] = _evaluation_mask(rows)
    rows = rows[rows["fit"] | rows["refit"] | rows["evaluated"]].reset_index(drop=True)
    return rows, fit_sampling, refit_sampling


def _split_policies_into_periods(
    labelled: LabelledRows, task: PredictionTask
) -> tuple[LabelledRows, PeriodSplit]:
    """Rows and their periods, without secondary policies that lack rows in a period."""
    rows = labelled.rows
    split = split_into_periods(rows, task.horizon)
    incomplete = {
        policy
        for policy in policies_of(rows)[1:]
        if not _has_rows_in_every_period(rows[rows["policy"].eq(policy)], split)
    }
    if not incomplete:
        return labelled, split
    log.warning("Too few rows for the cut-off policy %s: left out.", ", ".join(sorted(incomplete)))
    remaining = rows[~rows["policy"].isin(incomplete)].reset_index(drop=True)
    return replace(labelled, rows=remaining), split_into_periods(remaining, task.horizon)


def _has_rows_in_every_period(rows: pd.DataFrame, split: PeriodSplit) -> bool:
    return all(rows.index.isin(positions).any() for positions in split.positions_by_period().values())


def compute_feature_matrix(
    lake: LakeReader,
    rows: pd.DataFrame,
    feature_set: FeatureSet,
    engine: EngineOptions,
    advance: RowProgress | None = None,
) -> Float32Array:
    """Features of `rows` (`user_id, as_of, policy`), shape (rows, features), computed in chunks."""
    columns = list(feature_set.columns)
    matrix = np.empty((len(rows), len(columns)), np.float32)
    done = 0
    for positions in _chunks_by_policy(rows["policy"].to_numpy(object)):
        pairs = rows.iloc[positions][["user_id", "as_of", "policy"]].reset_index(drop=True)
        frame = compute_features(lake, cast("DataFrame[Pairs]", pairs), feature_set, engine=engine)
        matrix[positions] = to_matrix(frame[columns])
        done += len(positions)
        if advance is not None:
            advance(done, len(rows))
    return matrix


def _chunks_by_policy(policies: npt.NDArray[np.object_]) -> Iterator[IndexArray]:
    for policy in sorted(set(policies)):
        positions = np.flatnonzero(policies == policy)
        for start in range(0, len(positions), CHUNK_ROWS):
            yield positions[start : start + CHUNK_ROWS]


def _period_names(split: PeriodSplit, rows: int) -> list[str]:
    period = np.full(rows, EMBARGO, dtype=object)
    for name, positions in split.positions_by_period().items():
        period[positions] = name
    return list(period)


def _evaluation_mask(rows: pd.DataFrame) -> BoolArray:
    """Rows of the later periods that are scored: all, or those of a hashed share of the users."""
    later = rows["period"].isin(PERIODS[1:]).to_numpy(bool)
    share = MAX_EVALUATION_ROWS / max(1, int(later.sum()))
    if share >= 1:
        return later
    return later & (user_hash_fraction(rows["user_id"], EVALUATION_SALT) < share)


def _varying_columns(matrix: Float32Array) -> BoolArray:
    return np.asarray((matrix != matrix[:1]).any(axis=0), dtype=np.bool_)
