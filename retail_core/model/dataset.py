"""From the lake to labelled rows, to the rows a training needs, to their features. Memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.errors import DataError, InputError
from retail_core.features.attributes import infer_attributes
from retail_core.features.batch import compute
from retail_core.features.cutoffs import daily_pairs, first_visit_pairs, labelled_cutoffs
from retail_core.features.definitions import FeatureSet, default_feature_set
from retail_core.features.engine import DUCKDB, EngineOptions
from retail_core.features.labels import label
from retail_core.features.question import Question
from retail_core.model.estimator import Matrix, to_matrix
from retail_core.model.sampling import Sampling, plan_sampling
from retail_core.model.splits import PERIODS, Mask, Split, split_rows, user_share
from retail_core.schemas import POLICIES, Pairs, TrainingRows
from retail_core.settings import Settings
from retail_core.store.lake import Lake

EMBARGO = "embargo"
EVALUATION_ROWS = 400_000
"""Rows of the later periods that get features; above it users are sampled by hash, with all their rows."""
CHUNK_ROWS = 100_000

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Labelled:
    """All labelled (user, cut-off) rows: `user_id, as_of, policy, label`; and the days that were gaps.

    Attributes in `admitted` are used even where they have no date.
    """

    rows: DataFrame[TrainingRows]
    gaps: tuple[date, ...]
    admitted: tuple[str, ...] = ()


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
    matrix: Matrix
    feature_set: FeatureSet
    dropped: tuple[str, ...]
    split: Split
    fit_sampling: Sampling
    refit_sampling: Sampling
    labelled: Labelled
    question: Question

    def take(self, mask: Mask) -> tuple[pd.DataFrame, Matrix]:
        """Rows and features where `mask` holds."""
        return self.rows[mask], self.matrix[mask]

    @property
    def policies(self) -> tuple[str, ...]:
        """Cut-off policies that have rows, the primary one first."""
        present = set(self.rows["policy"])
        return tuple(policy for policy in POLICIES if policy in present)

    def columns_of(self, matrix: Matrix, names: Sequence[str]) -> pd.DataFrame:
        """Features of `matrix` by name; those that were dropped are left out."""
        columns = self.feature_set.columns
        return pd.DataFrame({name: matrix[:, columns.index(name)] for name in names if name in columns})


def labelled_rows(
    lake: Lake,
    question: Question,
    policies: Sequence[str],
    as_of: datetime,
    engine: EngineOptions = DUCKDB,
) -> Labelled:
    """Every row whose label is known at `as_of` (t + horizon <= as_of), of all policies, by time.

    Raises:
        InputError: an unknown policy.
        DataError: there is no such row.
    """
    parts, gaps = [], tuple[date, ...]()
    for policy in policies:
        if policy == "daily":
            plan = labelled_cutoffs(lake, question, as_of, engine)
            gaps = plan.gaps
            pairs = daily_pairs(lake, question, plan.cutoffs, engine) if plan.cutoffs else None
        elif policy == "first-visit":
            pairs = first_visit_pairs(lake, question, as_of - question.horizon, engine)
        else:
            raise InputError(
                f"There is no cut-off policy {policy!r} to train for.", remedy="use daily or first-visit."
            )
        if pairs is not None and len(pairs):
            parts.append(pairs[["user_id", "as_of"]].assign(policy=policy))
    if not parts:
        raise DataError(
            f"No user has a cut-off whose {question.horizon_hours} hours have passed.",
            remedy="ingest a longer log, or train with a later --as-of.",
        )
    rows = pd.concat(parts, ignore_index=True).drop_duplicates(["user_id", "as_of"], ignore_index=True)
    rows["policy"] = rows["policy"].astype("str")
    rows = rows.sort_values(["as_of", "user_id"], ignore_index=True)
    rows["label"] = label(lake, question, rows, known_until=as_of, engine=engine).to_numpy(bool)
    return Labelled(cast("DataFrame[TrainingRows]", rows), gaps)


def refuse_too_little(rows: pd.DataFrame, min_buyers: int) -> None:
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


def build(
    lake: Lake,
    labelled: Labelled,
    question: Question,
    settings: Settings,
    *,
    as_of: datetime,
    advance: Advance | None = None,
) -> TrainingData:
    """Split, sample, and compute features of the rows that are needed.

    Raises:
        DataError: too little data, see `refuse_too_little` and `splits.split_rows`.
    """
    every = labelled.rows
    refuse_too_little(every, settings.min_buyers)
    split = split_rows(every, question.horizon)
    train = np.zeros(len(every), bool)
    train[split.train] = True
    labels = every["label"].to_numpy(bool)
    fit_sampling = plan_sampling(labels[train], settings.fit_rows)
    refit_sampling = plan_sampling(labels, settings.fit_rows)
    rows = every.assign(
        period=_periods(split, len(every)),
        fit=train & fit_sampling.keep(every, settings.seed),
        refit=refit_sampling.keep(every, settings.seed),
    )
    rows["judged"] = _judged(rows)
    rows = rows[rows["fit"] | rows["refit"] | rows["judged"]].reset_index(drop=True)
    undated = set(every["policy"]) == {"first-visit"}
    known = infer_attributes(lake, as_of, include_undated=undated, admit=labelled.admitted)
    wanted = default_feature_set(question, known)
    matrix = features(lake, rows, wanted, EngineOptions.from_settings(settings), advance)
    useful = _tells_apart(matrix)
    kept = [name for name, use in zip(wanted.columns, useful, strict=True) if use]
    dropped = tuple(name for name, use in zip(wanted.columns, useful, strict=True) if not use)
    chosen = wanted.select(kept)
    return TrainingData(
        rows, matrix[:, useful], chosen, dropped, split, fit_sampling, refit_sampling, labelled, question
    )


def features(
    lake: Lake,
    rows: pd.DataFrame,
    feature_set: FeatureSet,
    engine: EngineOptions,
    advance: Advance | None = None,
) -> Matrix:
    """Features of `rows` (`user_id, as_of, policy`) as float32, chunk by chunk in order of time."""
    columns = list(feature_set.columns)
    matrix = np.empty((len(rows), len(columns)), np.float32)
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows.iloc[start : start + CHUNK_ROWS][["user_id", "as_of", "policy"]].reset_index(drop=True)
        frame = compute(lake, cast("DataFrame[Pairs]", part), feature_set, engine=engine)
        matrix[start : start + len(part)] = to_matrix(frame[columns])
        if advance is not None:
            advance(start + len(part), len(rows))
    return matrix


def _periods(split: Split, rows: int) -> list[str]:
    period = np.full(rows, EMBARGO, dtype=object)
    for name, positions in split.parts().items():
        period[positions] = name
    return list(period)


def _judged(rows: pd.DataFrame) -> Mask:
    """Rows of the later periods that are scored: all, or those of a hashed share of the users."""
    later = rows["period"].isin(PERIODS[1:]).to_numpy(bool)
    share = EVALUATION_ROWS / max(1, int(later.sum()))
    if share >= 1:
        return later
    return later & (user_share(rows["user_id"], "judged") < share)


def _tells_apart(matrix: Matrix) -> Mask:
    return np.asarray((matrix != matrix[:1]).any(axis=0), dtype=np.bool_)
