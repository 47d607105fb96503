"""What the guard works on: a bounded sample of rows with features, and all labelled rows for attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.features.batch.attribute_columns import attribute_columns_as_of
from retail_core.features.engine import LakeReader
from retail_core.features.feature_set import FeatureSet
from retail_core.features.user_attributes import AttributeEncoding
from retail_core.model.dataset import TrainingData
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.leakage.value_cells import RowLabels, ValueCells, category_cells, number_cells
from retail_core.model.sampling import Sampling, row_hash_fraction
from retail_core.model.splits import user_hash_fraction
from retail_core.schemas import POLICIES

SAMPLE_ROWS = 20_000
"""Rows a policy is judged on; half of them buy where so many do."""
PROFILE_ROWS = 100_000
"""Labelled rows whose users' attributes are looked up."""


@dataclass(frozen=True)
class GuardData:
    """Rows to judge.

    Attributes:
        rows: `user_id, as_of, policy, label`; a sample of `labelled`.
        matrix: features of `rows`, columns as `feature_set` names them.
        sampling: rates at which `rows` were drawn.
        labelled: every labelled row, same columns.
        lake: None for a table without events.
        as_of: only what was known then counts; None for a table without times.
    """

    rows: pd.DataFrame
    matrix: Float32Array
    feature_set: FeatureSet
    sampling: Sampling
    labelled: pd.DataFrame
    lake: LakeReader | None
    as_of: datetime | None
    seed: int

    @property
    def policies(self) -> tuple[str, ...]:
        """Cut-off policies with rows."""
        present = set(self.rows["policy"])
        known = [policy for policy in POLICIES if policy in present]
        return (*known, *sorted(present - set(known)))


@dataclass(frozen=True)
class GuardSample:
    """The judged rows of one policy, aligned."""

    policy: str
    rows: pd.DataFrame
    matrix: Float32Array
    answers: RowLabels
    weights: np.ndarray[tuple[int], np.dtype[np.float64]]


def guard_data_from_training(lake: LakeReader, data: TrainingData, as_of: datetime, seed: int) -> GuardData:
    """The rows that a training refits on."""
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    every = data.labelled.rows
    return GuardData(rows, matrix, data.feature_set, data.refit_sampling, every, lake, as_of, seed)


def draw_sample(evidence: GuardData, policy: str, limit: int = SAMPLE_ROWS) -> GuardSample:
    """At most about `limit` rows of a policy: buying ones up to half of it, then others."""
    mine = evidence.rows["policy"].eq(policy).to_numpy(bool)
    rows, matrix = evidence.rows[mine], evidence.matrix[mine]
    labels = rows["label"].to_numpy(bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    kept = min(positives, max(limit // 2, limit - negatives))
    sampling = Sampling(
        evidence.sampling.positive_rate * min(1.0, kept / max(1, positives)),
        evidence.sampling.negative_rate * min(1.0, (limit - kept) / max(1, negatives)),
    )
    chosen = sampling.select(rows, evidence.seed)
    rows, matrix = rows[chosen].reset_index(drop=True), matrix[chosen]
    labels = rows["label"].to_numpy(bool)
    users = pd.factorize(rows["user_id"])[0].astype(np.intp)
    answers = RowLabels(labels, users, sampling.factor, row_hash_fraction(rows, evidence.seed + 1))
    return GuardSample(policy, rows, matrix, answers, sampling.weights(labels))


@dataclass(frozen=True)
class AttributeProfile:
    """One attribute over the users of a policy: from the first row on in which a user has a cell.

    `answers.labels` says whether the user bought in that row or any later one. `values` are the numbers
    of a numeric attribute, else the buyers' share that the other half of the users has in the cell.
    """

    name: str
    cells: ValueCells
    answers: RowLabels
    values: np.ndarray[tuple[int], np.dtype[np.float32]]


def attribute_profiles(evidence: GuardData, policy: str) -> Iterator[AttributeProfile]:
    """Every attribute of the feature set, over a bounded number of users with all their rows."""
    attributes = evidence.feature_set.attributes
    if not attributes:
        return
    rows, known = _attributes_of(evidence, policy)
    ever = rows["label"].iloc[::-1].groupby(rows["user_id"].iloc[::-1]).cummax().iloc[::-1].to_numpy(bool)
    users = pd.factorize(rows["user_id"])[0].astype(np.intp)
    for attribute in attributes:
        encoded = np.column_stack([known[column] for column in attribute.columns])
        yield build_profile(
            attribute, encoded, RowLabels(ever, users, 1.0, row_hash_fraction(rows, evidence.seed + 1))
        )


def _attributes_of(evidence: GuardData, policy: str) -> tuple[pd.DataFrame, dict[str, FloatArray]]:
    """Rows in order of time, and their users' attributes: from the lake, or the columns of a table."""
    if evidence.lake is not None:
        rows = limit_users(evidence.labelled[evidence.labelled["policy"].eq(policy)])
        return rows, attribute_columns_as_of(evidence.lake, rows, evidence.feature_set.attributes)
    mine = evidence.rows["policy"].eq(policy).to_numpy(bool)
    columns = zip(evidence.feature_set.columns, evidence.matrix[mine].T, strict=True)
    return evidence.rows[mine], {name: column.astype(np.float64) for name, column in columns}


def build_profile(
    attribute: AttributeEncoding,
    encoded: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    answers: RowLabels,
) -> AttributeProfile:
    """The attribute's cells, one row a user and cell; `encoded` has the attribute's columns."""
    numeric = attribute.kind == "number"
    numbers = to_matrix(encoded)[:, 0]
    cells = number_cells(numbers) if numeric else category_cells(encoded, attribute.categories)
    pairs = pd.DataFrame({"user": answers.users, "code": cells.codes})
    first = ~pairs.duplicated().to_numpy(bool)
    kept = RowLabels(answers.labels[first], answers.users[first], answers.factor, answers.draws[first])
    codes = cells.codes[first]
    values = numbers[first] if numeric else _buyer_share_of_other_half(codes, kept)
    return AttributeProfile(attribute.name, ValueCells(codes, cells.names), kept, values)


def column_owners(feature_set: FeatureSet) -> list[str]:
    """For every column of a matrix the feature or attribute it belongs to."""
    attributes = [one.name for one in feature_set.attributes for _ in one.columns]
    return [*feature_set.names, *attributes]


def limit_users(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows of a hashed share of the users, in order of time."""
    share = PROFILE_ROWS / max(1, len(rows))
    if share < 1:
        rows = rows[user_hash_fraction(rows["user_id"], "leakage") < share]
    return rows.sort_values(["as_of", "user_id"])


def _buyer_share_of_other_half(
    codes: np.ndarray[tuple[int], np.dtype[np.intp]], answers: RowLabels
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """For each row the buyers' share among the users of the other half that have its cell."""
    half: BoolArray = answers.users % 2 == 0
    shares = np.zeros(len(codes), np.float32)
    for part in (half, ~half):
        other, size = ~part, int(codes.max()) + 1
        base = answers.labels[other].mean() if other.any() else 0.0
        bought = np.bincount(codes[other], weights=answers.labels[other], minlength=size)
        n = np.bincount(codes[other], minlength=size)
        shares[part] = ((bought + base) / (n + 1))[codes[part]]
    return shares
