"""A column cut into cells, and the cells whose users nearly all buy, or never do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from retail_core.arrays import BoolArray, IndexArray
from retail_core.model.feature_matrix import MISSING
from retail_core.model.leakage.intervals import Interval, share_interval
from retail_core.model.sampling import correct_prior

MAX_CELLS = 20
BINS = 10

PURE_LOW = 0.95
"""A cell names buyers if the lower bound of their share in it is at least this, and ..."""
IMPURITY_LEFT = 0.1
"""... if at most this part of the others' share is left, which counts where most users buy anyway."""
EMPTY_HIGH = 0.05
"""A cell names the others if the upper bound of its buyers' share is at most this part of all users'."""
BUYERS_COVERED = 0.01
OTHERS_COVERED = 0.10
"""Cells that name buyers (others) count if so large a part of all buyers (others) is in them."""


@dataclass(frozen=True)
class ValueCells:
    """A column's cells: the code of each row and the cells' names."""

    codes: IndexArray
    names: tuple[str, ...]


@dataclass(frozen=True)
class RowLabels:
    """Who bought; aligned rows.

    Attributes:
        labels: bought within the horizon (or, for a user's attribute, in any later row too).
        users: code of each row's user.
        factor: of the prior correction; the rows kept every 1/rate-th negative.
        draws: a number in [0, 1) for each row, which chooses one row of a user.
    """

    labels: BoolArray
    users: IndexArray
    factor: float
    draws: npt.NDArray[np.float64]

    @property
    def base(self) -> float:
        """Share of buying rows in the population."""
        return float(correct_prior(np.array([self.labels.mean()]), self.factor)[0])


@dataclass(frozen=True)
class PureCell:
    """A cell that names the answer."""

    name: str
    kind: str
    users: int
    bought: int
    share: Interval
    base: float
    covered: float


def number_cells(values: npt.NDArray[np.float32]) -> ValueCells:
    """Cells of a numeric column: unknown, then each value where there are few, else ten of equal size."""
    known = values != MISSING
    distinct = np.unique(values[known])
    if len(distinct) > MAX_CELLS:
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, BINS + 1), method="lower"))
        codes = np.clip(np.searchsorted(edges, values, side="right"), 1, len(edges) - 1)
        names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    else:
        codes = np.searchsorted(distinct, values) + 1
        names = [f"{value:g}" for value in distinct]
    return ValueCells(np.where(known, codes, 0).astype(np.intp), ("unknown", *names))


def category_cells(indicators: npt.NDArray[np.floating], names: Sequence[str]) -> ValueCells:
    """Cells of one-hot columns, shape (rows, values); the first cell is any other value, or none."""
    codes = np.where(indicators.any(axis=1), indicators.argmax(axis=1) + 1, 0)
    return ValueCells(codes.astype(np.intp), ("any other value", *names))


def find_pure_cells(
    cells: ValueCells, answers: RowLabels, alpha: float, *, both_ways: bool
) -> Iterator[PureCell]:
    """The cells that name the answer; with `both_ways` also those whose users never buy.

    Every user counts once in a cell, with one row drawn at random.
    """
    labels, base = answers.labels, answers.base
    size = len(cells.names)
    hits = np.bincount(cells.codes[labels], minlength=size)
    rows = np.bincount(cells.codes, minlength=size)
    for code in np.flatnonzero(rows):
        share = float(correct_prior(np.array([hits[code] / rows[code]]), answers.factor)[0])
        buyers_here = hits[code] / max(1, labels.sum())
        others_here = (rows[code] - hits[code]) / max(1, (~labels).sum())
        kind, covered = ("buyers", buyers_here) if share > base else ("others", others_here)
        if (kind == "others" and not both_ways) or covered < (
            BUYERS_COVERED if kind == "buyers" else OTHERS_COVERED / size
        ):
            continue
        if share < PURE_LOW if kind == "buyers" else share > EMPTY_HIGH * base:
            continue
        n, bought = _count_one_row_per_user(cells.codes == code, answers)
        found = share_interval(bought, n, alpha)
        low, value, high = correct_prior(np.array([found.low, found.value, found.high]), answers.factor)
        pure = low >= max(PURE_LOW, 1 - IMPURITY_LEFT * (1 - base))
        if pure if kind == "buyers" else high <= EMPTY_HIGH * base:
            name, interval = cells.names[code], Interval(float(value), float(low), float(high))
            yield PureCell(name, kind, n, bought, interval, base, float(covered))


def _count_one_row_per_user(inside: BoolArray, answers: RowLabels) -> tuple[int, int]:
    """Users in a cell, and how many of them bought in the row drawn for them."""
    frame = pd.DataFrame(
        {
            "user": answers.users[inside],
            "label": answers.labels[inside],
            "draw": answers.draws[inside],
        }
    )
    drawn = frame.sort_values("draw").drop_duplicates("user")
    return len(drawn), int(drawn["label"].sum())


def cells_with_enough_coverage(found: Sequence[PureCell]) -> list[PureCell]:
    """Those that count: the cells of one kind together cover enough."""
    kept: list[PureCell] = []
    for kind, least in (("buyers", BUYERS_COVERED), ("others", OTHERS_COVERED)):
        same = [one for one in found if one.kind == kind]
        if sum(one.covered for one in same) >= least:
            kept += same
    return kept
