"""Usual values of the shop's context features, which replace them where a day's values are missing.

A ranker has seen hardly any row without context, so that it misjudges such rows as a whole. With the usual
values of the weekday its probabilities are right on average over ordinary days (measured in `docs/api.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, Float32Array, FloatArray
from retail_core.features.cutoff_context import CONTEXT_PREFIX
from retail_core.features.feature_set import FeatureSet
from retail_core.model.feature_matrix import MISSING

USUAL_DAYS = 28
"""The newest days of the training data that count as usual."""

WEEKDAY_COLUMN = "weekday"
LEVEL_COLUMN = f"{CONTEXT_PREFIX}buyers_usual"
"""The context feature that grows with the shop, which a part of its log does not reach."""

MIN_LEVEL, MAX_LEVEL = 0.5, 2.0
"""Factors between a log's and the usual level within which the log may be the whole shop's."""


def usual_context(rows: pd.DataFrame, matrix: Float32Array, feature_set: FeatureSet) -> dict[str, Any]:
    """Median of every context feature over the newest `USUAL_DAYS` days of the rows, by weekday and overall.

    Args:
        rows: `as_of`.
        matrix: features of the rows.
        feature_set: names the columns.

    Returns:
        Plain JSON values, stored as `usual_context` with the version: `columns`, `by_weekday` (seven lists,
        Monday first) and `overall`, each in the order of `columns`. Empty without context features.
    """
    columns = [name for name in feature_set.columns if name.startswith(CONTEXT_PREFIX)]
    if not columns or rows.empty:
        return {}
    days = rows["as_of"].dt.tz_convert(feature_set.task.timezone).dt.date
    first_of_day = ~days.duplicated().to_numpy(bool)
    indices = [feature_set.columns.index(name) for name in columns]
    values = matrix[np.ix_(first_of_day, indices)].astype(np.float64)
    by_day = pd.DataFrame(np.where(values == MISSING, np.nan, values), index=days[first_of_day])
    newest = by_day.sort_index().tail(USUAL_DAYS)
    overall = newest.median()
    # An array: pandas would take a short list of numbers for the names of columns.
    weekdays = newest.groupby(np.array([day.weekday() for day in newest.index])).median()
    by_weekday = weekdays.reindex(range(7)).fillna(overall)
    return {
        "columns": columns,
        "by_weekday": [_plain(row) for row in by_weekday.to_numpy()],
        "overall": _plain(overall.to_numpy()),
    }


def _plain(values: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


@dataclass(frozen=True)
class UsualContext:
    """Replaces missing context in rows of features.

    Attributes:
        indices: positions of the context features in a row.
        weekday: position of the weekday, None where the model has none.
        values: shape (8, context features): Monday to Sunday, then overall; null is NaN.
        level: usual value of `LEVEL_COLUMN`; None where the model has no such feature.
    """

    indices: tuple[int, ...]
    weekday: int | None
    values: FloatArray
    level: float | None

    @classmethod
    def from_stored(cls, stored: dict[str, Any], feature_set: FeatureSet) -> Self:
        """Inverse of `usual_context`, for a model with that feature set."""
        columns = list(feature_set.columns)
        values = np.array([*stored["by_weekday"], stored["overall"]], dtype=np.float64)
        names = list(stored["columns"])
        return cls(
            tuple(columns.index(name) for name in names),
            columns.index(WEEKDAY_COLUMN) if WEEKDAY_COLUMN in columns else None,
            values,
            float(values[-1, names.index(LEVEL_COLUMN)]) if LEVEL_COLUMN in names else None,
        )

    def is_missing(self, rows: FloatArray) -> BoolArray:
        """Mask of the rows, shape (rows, features), in which every context feature is null."""
        return np.asarray(np.isnan(rows[:, self.indices]).all(axis=1), dtype=np.bool_)

    def fill(self, rows: FloatArray) -> FloatArray:
        """The rows with the usual values where the whole context is missing; the argument is not changed."""
        missing = self.is_missing(rows)
        if not missing.any():
            return rows
        filled = rows.copy()
        weekdays = np.full(len(rows), np.nan) if self.weekday is None else rows[:, self.weekday]
        has_weekday = (weekdays >= 0) & (weekdays <= 6)
        position = np.where(has_weekday, weekdays, 7).astype(np.intp)
        filled[np.ix_(missing, np.array(self.indices))] = self.values[position[missing]]
        return filled

    def fits_level(self, buyers_usual: float | None) -> bool:
        """Whether a log with that many usual buyers may be the whole shop's, not that of some users."""
        if self.level is None or not self.level > 0 or buyers_usual is None or np.isnan(buyers_usual):
            return True
        return MIN_LEVEL <= buyers_usual / self.level <= MAX_LEVEL
