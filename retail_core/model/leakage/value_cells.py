"""A column cut into cells of values, and the cells whose users nearly all buy or never buy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray, IndexArray
from retail_core.model.feature_matrix import MISSING
from retail_core.model.leakage.intervals import Interval, share_interval
from retail_core.model.sampling import correct_prior

MAX_CELLS = 20
BINS = 10

PURE_LOW = 0.95
"""A cell identifies buyers if the lower bound of their share in it is at least this, and ..."""
IMPURITY_LEFT = 0.1
"""... if at most this fraction of the non-buyers' share is left, which matters where most users buy."""
EMPTY_HIGH = 0.05
"""A cell identifies non-buyers if the upper bound of its buyers' share is at most this times the base."""
BUYERS_COVERED = 0.01
OTHERS_COVERED = 0.10
"""Cells that identify buyers (non-buyers) count if this share of all buyers (non-buyers) is in them."""


@dataclass(frozen=True)
class ValueCells:
    """A column's cells: the code of each row's cell and the cells' names."""

    codes: IndexArray
    names: tuple[str, ...]


@dataclass(frozen=True)
class RowLabels:
    """Labels of aligned rows.

    Attributes:
        bought: the user bought within the horizon (for a user attribute: in this row or any later one).
        users: code of each row's user.
        factor: k of the prior correction; the rows are a sample with fewer negatives.
        draws: a number in [0, 1) for each row, by which one row of a user is drawn.
    """

    bought: BoolArray
    users: IndexArray
    factor: float
    draws: FloatArray

    @property
    def base_rate(self) -> float:
        """Share of buying rows in the population."""
        return float(correct_prior(np.array([self.bought.mean()]), self.factor)[0])


@dataclass(frozen=True)
class PureCell:
    """A cell whose users nearly all buy (`kind` "buyers") or never buy ("others").

    Attributes:
        name: the value or range.
        kind: which users it identifies.
        users: distinct users in it.
        bought: those of them that bought in the row drawn for them.
        share: share of buyers in the population, with its interval.
        base: base rate of the rows.
        covered: share of all buyers (non-buyers) that is in the cell.
    """

    name: str
    kind: str
    users: int
    bought: int
    share: Interval
    base: float
    covered: float


def number_cells(values: Float32Array) -> ValueCells:
    """Cells of a numeric column: unknown, then each value where there are few, else ten of equal size."""
    present = values != MISSING
    distinct = np.unique(values[present])
    if len(distinct) > MAX_CELLS:
        edges = np.unique(np.quantile(values[present], np.linspace(0, 1, BINS + 1), method="lower"))
        codes = np.clip(np.searchsorted(edges, values, side="right"), 1, len(edges) - 1)
        names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    else:
        codes = np.searchsorted(distinct, values) + 1
        names = [f"{value:g}" for value in distinct]
    return ValueCells(np.where(present, codes, 0).astype(np.intp), ("unknown", *names))


def category_cells(indicators: FloatArray | Float32Array, names: Sequence[str]) -> ValueCells:
    """Cells of one-hot columns, shape (rows, values); the first cell is any other value, or none."""
    codes = np.where(indicators.any(axis=1), indicators.argmax(axis=1) + 1, 0)
    return ValueCells(codes.astype(np.intp), ("any other value", *names))


def find_pure_cells(
    cells: ValueCells, row_labels: RowLabels, alpha: float, *, both_ways: bool
) -> Iterator[PureCell]:
    """The cells that identify buyers; with `both_ways` also those that identify non-buyers.

    Every user counts once in a cell, with one row drawn at random.

    Args:
        cells: of the column.
        row_labels: of the same rows.
        alpha: level of each one-sided bound.
        both_ways: whether cells of users who never buy count.
    """
    bought, base_rate = row_labels.bought, row_labels.base_rate
    size = len(cells.names)
    hits = np.bincount(cells.codes[bought], minlength=size)
    rows = np.bincount(cells.codes, minlength=size)
    for code in np.flatnonzero(rows):
        share = float(correct_prior(np.array([hits[code] / rows[code]]), row_labels.factor)[0])
        buyer_coverage = hits[code] / max(1, bought.sum())
        non_buyer_coverage = (rows[code] - hits[code]) / max(1, (~bought).sum())
        is_buyers = share > base_rate
        kind, covered = ("buyers", buyer_coverage) if is_buyers else ("others", non_buyer_coverage)
        if (not is_buyers and not both_ways) or covered < (
            BUYERS_COVERED if is_buyers else OTHERS_COVERED / size
        ):
            continue
        if share < PURE_LOW if is_buyers else share > EMPTY_HIGH * base_rate:
            continue
        users, buyers = _count_one_row_per_user(cells.codes == code, row_labels)
        sampled = share_interval(buyers, users, alpha)
        low, value, high = correct_prior(
            np.array([sampled.low, sampled.value, sampled.high]), row_labels.factor
        )
        is_pure = low >= max(PURE_LOW, 1 - IMPURITY_LEFT * (1 - base_rate))
        if is_pure if is_buyers else high <= EMPTY_HIGH * base_rate:
            interval = Interval(float(value), float(low), float(high))
            yield PureCell(cells.names[code], kind, users, buyers, interval, base_rate, float(covered))


def _count_one_row_per_user(inside: BoolArray, row_labels: RowLabels) -> tuple[int, int]:
    """Users in a cell, and how many of them bought in the row drawn for them."""
    frame = pd.DataFrame(
        {
            "user": row_labels.users[inside],
            "bought": row_labels.bought[inside],
            "draw": row_labels.draws[inside],
        }
    )
    one_row_each = frame.sort_values("draw").drop_duplicates("user")
    return len(one_row_each), int(one_row_each["bought"].sum())


def cells_with_enough_coverage(pure_cells: Sequence[PureCell]) -> list[PureCell]:
    """Those whose cells of one kind together cover enough buyers (non-buyers)."""
    sufficient: list[PureCell] = []
    for kind, min_coverage in (("buyers", BUYERS_COVERED), ("others", OTHERS_COVERED)):
        same_kind = [cell for cell in pure_cells if cell.kind == kind]
        if sum(cell.covered for cell in same_kind) >= min_coverage:
            sufficient += same_kind
    return sufficient
