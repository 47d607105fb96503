"""Rows without shop context are scored with the usual context of the training data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from retail_core.features.feature_set import FeatureSet
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.feature_matrix import MISSING
from retail_core.model.usual_context import UsualContext, usual_context

FEATURES = FeatureSet(
    PredictionTask(timezone="Europe/Berlin"),
    ("event_count_1d", "weekday", "shop_buyers_usual", "shop_rate_recent"),
)
MONDAY = pd.Timestamp("2025-01-06", tz="Europe/Berlin")


def training_rows(days: int = 35) -> tuple[pd.DataFrame, np.ndarray]:
    """Two rows a day; 20 usual buyers on Sundays, 10 on other days, none known on the first."""
    as_of = [MONDAY + pd.Timedelta(days=day) for day in range(days) for _ in range(2)]
    rows = pd.DataFrame({"as_of": pd.Series(as_of).dt.tz_convert("UTC")})
    weekday = np.array([time.weekday() for time in as_of])
    usual = np.where(weekday == 6, 20.0, 10.0)
    usual[:2] = MISSING
    matrix = np.column_stack([np.ones(len(rows)), weekday, usual, np.full(len(rows), 0.03)])
    return rows, matrix.astype(np.float32)


@pytest.fixture
def usual() -> UsualContext:
    stored = json.loads(json.dumps(usual_context(*training_rows(), FEATURES)))
    return UsualContext.from_stored(stored, FEATURES)


def test_a_row_without_context_gets_the_usual_one_of_its_weekday(usual: UsualContext) -> None:
    nan = np.nan
    rows = np.array([[5, 6, nan, nan], [5, 0, nan, nan], [5, nan, nan, nan]])
    expected = [[5, 6, 20, 0.03], [5, 0, 10, 0.03], [5, nan, 10, 0.03]]
    np.testing.assert_allclose(usual.fill(rows), expected, rtol=1e-6)
    assert np.isnan(rows[:, 2:]).all(), "the argument is not changed"


@pytest.mark.parametrize("days", [1, 2, 4, 7])
def test_a_short_training_has_the_usual_context_of_all_its_days(days: int) -> None:
    rows, matrix = training_rows(9)
    newest = (rows["as_of"] >= rows["as_of"].max() - pd.Timedelta(days=days - 1)).to_numpy(bool)
    stored = usual_context(rows[newest], matrix[newest], FEATURES)
    assert {len(values) for values in [*stored["by_weekday"], stored["overall"]]} == {2}
    filled = UsualContext.from_stored(stored, FEATURES).fill(np.array([[5, 3, np.nan, np.nan]]))
    np.testing.assert_allclose(filled, [[5, 3, 10, 0.03]], rtol=1e-6)


def test_a_row_with_some_context_keeps_its_nulls(usual: UsualContext) -> None:
    """The first days of a shop have no earlier weekday: models learned from such rows."""
    rows = np.array([[5, 6, np.nan, 0.01], [5, 6, 7, 0.01]])
    np.testing.assert_array_equal(usual.fill(rows), rows)
    assert usual.is_missing(rows).tolist() == [False, False]


@pytest.mark.parametrize(("buyers", "fits"), [(10, True), (6, True), (19, True), (1.2, False), (40, False)])
def test_a_log_of_some_users_does_not_reach_the_shops_level(
    usual: UsualContext, buyers: float, fits: bool
) -> None:
    assert usual.fits_level(buyers) is fits
    assert usual.fits_level(None)


def test_a_model_without_context_stores_nothing() -> None:
    rows, matrix = training_rows()
    assert usual_context(rows, matrix[:, :2], FEATURES.select(["event_count_1d", "weekday"])) == {}
