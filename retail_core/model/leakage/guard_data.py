"""Input of the guard: a bounded sample of rows with features, and all labelled rows for attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray, IndexArray
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
"""Rows that a policy is inspected on; half of them are buyers' where there are as many."""
PROFILE_ROWS = 100_000
"""Labelled rows whose users' attributes are looked up."""


@dataclass(frozen=True)
class GuardData:
    """Rows to inspect and where they come from.

    Attributes:
        rows: `user_id, as_of, policy, label`; a sample of `labelled`.
        matrix: features of `rows`, columns as `feature_set` names them.
        feature_set: features and attributes of the columns.
        sampling: rates at which `rows` were sampled.
        labelled: every labelled row, same columns.
        lake: events and attributes; None for a table without events.
        as_of: only what was known at this instant counts; None for a table without times.
        seed: of every random draw.
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
        ordered = [policy for policy in POLICIES if policy in present]
        return (*ordered, *sorted(present - set(ordered)))


@dataclass(frozen=True)
class GuardSample:
    """The inspected rows of one policy, aligned; `weights` are the population rows each stands for."""

    policy: str
    rows: pd.DataFrame
    matrix: Float32Array
    row_labels: RowLabels
    weights: FloatArray


def guard_data_from_training(lake: LakeReader, data: TrainingData, as_of: datetime, seed: int) -> GuardData:
    """The rows that a training refits on."""
    rows, matrix = data.take(data.rows["refit"].to_numpy(bool))
    labelled = data.labelled.rows
    return GuardData(rows, matrix, data.feature_set, data.refit_sampling, labelled, lake, as_of, seed)


def draw_sample(guard_data: GuardData, policy: str, limit: int = SAMPLE_ROWS) -> GuardSample:
    """At most about `limit` rows of a policy: buyers' rows up to half of it, then others."""
    of_policy = guard_data.rows["policy"].eq(policy).to_numpy(bool)
    rows, matrix = guard_data.rows[of_policy], guard_data.matrix[of_policy]
    labels = rows["label"].to_numpy(bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    positive_limit = min(positives, max(limit // 2, limit - negatives))
    sampling = Sampling(
        guard_data.sampling.positive_rate * min(1.0, positive_limit / max(1, positives)),
        guard_data.sampling.negative_rate * min(1.0, (limit - positive_limit) / max(1, negatives)),
    )
    selected = sampling.select(rows, guard_data.seed)
    rows, matrix = rows[selected].reset_index(drop=True), matrix[selected]
    labels = rows["label"].to_numpy(bool)
    users = pd.factorize(rows["user_id"])[0].astype(np.intp)
    row_labels = RowLabels(labels, users, sampling.factor, row_hash_fraction(rows, guard_data.seed + 1))
    return GuardSample(policy, rows, matrix, row_labels, sampling.weights(labels))


@dataclass(frozen=True)
class AttributeProfile:
    """One attribute over the users of a policy: for each user and cell the first row in which it holds.

    Attributes:
        name: of the attribute.
        cells: of those rows.
        row_labels: whether the user bought in that row or any later one.
        values: the numbers of a numeric attribute; else the buyers' share that the other half of the users
            has in the cell.
    """

    name: str
    cells: ValueCells
    row_labels: RowLabels
    values: Float32Array


def attribute_profiles(guard_data: GuardData, policy: str) -> Iterator[AttributeProfile]:
    """Every attribute of the feature set, over a bounded number of users with all their rows."""
    attributes = guard_data.feature_set.attributes
    if not attributes:
        return
    rows, attribute_columns = _attribute_columns(guard_data, policy)
    newest_first = rows["label"].iloc[::-1]
    ever_bought = newest_first.groupby(rows["user_id"].iloc[::-1]).cummax().iloc[::-1].to_numpy(bool)
    users = pd.factorize(rows["user_id"])[0].astype(np.intp)
    row_labels = RowLabels(ever_bought, users, 1.0, row_hash_fraction(rows, guard_data.seed + 1))
    for attribute in attributes:
        encoded = np.column_stack([attribute_columns[column] for column in attribute.columns])
        yield build_profile(attribute, encoded, row_labels)


def _attribute_columns(guard_data: GuardData, policy: str) -> tuple[pd.DataFrame, dict[str, FloatArray]]:
    """Rows in order of time, and their users' attributes: from the lake, or the columns of a table."""
    if guard_data.lake is not None:
        rows = limit_users(guard_data.labelled[guard_data.labelled["policy"].eq(policy)])
        return rows, attribute_columns_as_of(guard_data.lake, rows, guard_data.feature_set.attributes)
    of_policy = guard_data.rows["policy"].eq(policy).to_numpy(bool)
    columns = zip(guard_data.feature_set.columns, guard_data.matrix[of_policy].T, strict=True)
    return guard_data.rows[of_policy], {name: column.astype(np.float64) for name, column in columns}


def build_profile(
    attribute: AttributeEncoding, encoded: FloatArray, row_labels: RowLabels
) -> AttributeProfile:
    """The attribute's cells, one row per user and cell; `encoded` has the attribute's columns."""
    is_number = attribute.kind == "number"
    numbers = to_matrix(encoded)[:, 0]
    cells = number_cells(numbers) if is_number else category_cells(encoded, attribute.categories)
    pairs = pd.DataFrame({"user": row_labels.users, "code": cells.codes})
    first = ~pairs.duplicated().to_numpy(bool)
    first_labels = RowLabels(
        row_labels.bought[first], row_labels.users[first], row_labels.factor, row_labels.draws[first]
    )
    codes = cells.codes[first]
    values = numbers[first] if is_number else _buyer_share_of_other_half(codes, first_labels)
    return AttributeProfile(attribute.name, ValueCells(codes, cells.names), first_labels, values)


def column_owners(feature_set: FeatureSet) -> list[str]:
    """For every column of a matrix the feature or attribute it belongs to."""
    attributes = [attribute.name for attribute in feature_set.attributes for _ in attribute.columns]
    return [*feature_set.names, *attributes]


def limit_users(rows: pd.DataFrame) -> pd.DataFrame:
    """All rows of a hashed share of the users, about `PROFILE_ROWS`, in order of time."""
    share = PROFILE_ROWS / max(1, len(rows))
    if share < 1:
        rows = rows[user_hash_fraction(rows["user_id"], "leakage") < share]
    return rows.sort_values(["as_of", "user_id"])


def _buyer_share_of_other_half(codes: IndexArray, row_labels: RowLabels) -> Float32Array:
    """For each row the buyers' share among the users of the other half that have its cell."""
    even_users: BoolArray = row_labels.users % 2 == 0
    shares = np.zeros(len(codes), np.float32)
    for half in (even_users, ~even_users):
        other_half, size = ~half, int(codes.max()) + 1
        base_rate = row_labels.bought[other_half].mean() if other_half.any() else 0.0
        bought = np.bincount(codes[other_half], weights=row_labels.bought[other_half], minlength=size)
        rows = np.bincount(codes[other_half], minlength=size)
        shares[half] = ((bought + base_rate) / (rows + 1))[codes[half]]
    return shares
