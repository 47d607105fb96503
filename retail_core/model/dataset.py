"""From labelled rows to those a training needs, and to their features. Memory stays bounded."""

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
from retail_core.model.splits import PERIODS, PeriodSplit, split_into_periods, user_hash_fraction
from retail_core.schemas import POLICIES, Pairs
from retail_core.settings import Settings

EMBARGO = "embargo"
MAX_EVALUATION_ROWS = 400_000
"""Rows of the later periods that get features; above it users are sampled by hash, with all their rows."""
CHUNK_ROWS = 100_000

log = logging.getLogger(__name__)

RowProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingData:
    """What a training works on; `rows` and `matrix` are aligned.

    Attributes:
        rows: `user_id, as_of, policy, label, period` and the flags `fit` and `refit`.
        matrix: features of `rows`, float32, columns as `feature_set` names them.
        feature_set: without what was constant.
        dropped: columns left out because they tell no two rows apart.
        split: positions of the periods in `labelled.rows`.
        fit_sampling: of the train period, for the evaluation model.
        refit_sampling: of all rows, for the served model.
        labelled: every labelled row, features or not.
        question: what is asked.
    """

    rows: pd.DataFrame
    matrix: Float32Array
    feature_set: FeatureSet
    dropped: tuple[str, ...]
    split: PeriodSplit
    fit_sampling: Sampling
    refit_sampling: Sampling
    labelled: LabelledRows
    question: PredictionTask

    def take(self, mask: BoolArray) -> tuple[pd.DataFrame, Float32Array]:
        """Rows and features where `mask` holds."""
        return self.rows[mask], self.matrix[mask]

    @property
    def policies(self) -> tuple[str, ...]:
        """Cut-off policies that have rows, the primary one first."""
        return policies_of(self.rows)

    def columns_of(self, matrix: Float32Array, names: Sequence[str]) -> pd.DataFrame:
        """Features of `matrix` by name; those that were dropped are left out."""
        columns = self.feature_set.columns
        return pd.DataFrame({name: matrix[:, columns.index(name)] for name in names if name in columns})


def policies_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Cut-off policies that have rows, in the order of `POLICIES`."""
    present = set(rows["policy"])
    return tuple(policy for policy in POLICIES if policy in present)


def build_training_data(
    lake: LakeReader,
    labelled: LabelledRows,
    question: PredictionTask,
    settings: Settings,
    *,
    as_of: datetime,
    advance: RowProgress | None = None,
) -> TrainingData:
    """Split, sample, and compute features of the rows that are needed.

    Raises:
        DataError: too little data, see `refuse_too_little` and `splits.split_rows`.
    """
    refuse_too_few_buyers(labelled.rows, settings.min_buyers)
    labelled, split = _split_into_periods(labelled, question)
    every = labelled.rows
    train = np.zeros(len(every), bool)
    train[split.train] = True
    labels = every["label"].to_numpy(bool)
    fit_sampling = plan_sampling(labels[train], settings.fit_rows)
    refit_sampling = plan_sampling(labels, settings.fit_rows)
    rows = every.assign(
        period=_periods(split, len(every)),
        fit=train & fit_sampling.select(every, settings.seed),
        refit=refit_sampling.select(every, settings.seed),
    )
    rows["judged"] = _evaluation_mask(rows)
    rows = rows[rows["fit"] | rows["refit"] | rows["judged"]].reset_index(drop=True)
    undated = set(every["policy"]) == {"first-visit"}
    known = infer_attributes(lake, as_of, include_undated=undated, admit=labelled.admitted)
    wanted = default_feature_set(question, known)
    matrix = compute_feature_matrix(lake, rows, wanted, EngineOptions.from_settings(settings), advance)
    useful = _varying_columns(matrix)
    kept = [name for name, use in zip(wanted.columns, useful, strict=True) if use]
    dropped = tuple(name for name, use in zip(wanted.columns, useful, strict=True) if not use)
    chosen = wanted.select(kept)
    return TrainingData(
        rows, matrix[:, useful], chosen, dropped, split, fit_sampling, refit_sampling, labelled, question
    )


def _split_into_periods(labelled: LabelledRows, question: PredictionTask) -> tuple[LabelledRows, PeriodSplit]:
    """The four periods; a secondary policy without rows in each of them is left out."""
    rows = labelled.rows
    split = split_into_periods(rows, question.horizon)
    thin = {
        policy
        for policy in policies_of(rows)[1:]
        if not _has_rows_in_every_period(rows[rows["policy"].eq(policy)], split)
    }
    if not thin:
        return labelled, split
    log.warning("Too few rows for the cut-off policy %s: left out.", ", ".join(sorted(thin)))
    kept = rows[~rows["policy"].isin(thin)].reset_index(drop=True)
    return replace(labelled, rows=kept), split_into_periods(kept, question.horizon)


def _has_rows_in_every_period(rows: pd.DataFrame, split: PeriodSplit) -> bool:
    """Whether each period holds some of `rows`."""
    return all(rows.index.isin(part).any() for part in split.positions_by_period().values())


def compute_feature_matrix(
    lake: LakeReader,
    rows: pd.DataFrame,
    feature_set: FeatureSet,
    engine: EngineOptions,
    advance: RowProgress | None = None,
) -> Float32Array:
    """Features of `rows` (`user_id, as_of, policy`) as float32, policy by policy, chunk by chunk in time."""
    columns = list(feature_set.columns)
    matrix = np.empty((len(rows), len(columns)), np.float32)
    done = 0
    for positions in _chunks(rows["policy"].to_numpy(object)):
        part = rows.iloc[positions][["user_id", "as_of", "policy"]].reset_index(drop=True)
        frame = compute_features(lake, cast("DataFrame[Pairs]", part), feature_set, engine=engine)
        matrix[positions] = to_matrix(frame[columns])
        done += len(positions)
        if advance is not None:
            advance(done, len(rows))
    return matrix


def _chunks(policies: npt.NDArray[np.object_]) -> Iterator[IndexArray]:
    for policy in sorted(set(policies)):
        positions = np.flatnonzero(policies == policy)
        for start in range(0, len(positions), CHUNK_ROWS):
            yield positions[start : start + CHUNK_ROWS]


def _periods(split: PeriodSplit, rows: int) -> list[str]:
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
    return later & (user_hash_fraction(rows["user_id"], "judged") < share)


def _varying_columns(matrix: Float32Array) -> BoolArray:
    return np.asarray((matrix != matrix[:1]).any(axis=0), dtype=np.bool_)
