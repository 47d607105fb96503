"""The search tries every cell and selects the simplest that is as good as the best."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import pandas as pd

from retail_core.arrays import Float32Array
from retail_core.model.families import MODEL_FAMILIES, ModelFamily
from retail_core.model.feature_matrix import MISSING
from retail_core.model.search import GridCell, SearchRows, search_families, simplest_within_standard_error
from retail_core.model.splits import PeriodFolds


def season_rows(size: int, seed: int) -> tuple[Float32Array, pd.DataFrame]:
    """Rows of 24 days whose second feature decides in a step and whose third is often missing."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 2.0, (size, 5)).astype(np.float32)
    log_odds = -3.5 + 0.5 * matrix[:, 0] + 2.0 * (matrix[:, 1] > 4)
    matrix[rng.random(size) < 0.3, 2] = MISSING
    days = pd.to_timedelta(np.sort(rng.integers(0, 24, size)), unit="D")
    rows = pd.DataFrame(
        {
            "user_id": [f"u{number}" for number in rng.integers(0, size // 6, size)],
            "as_of": pd.Timestamp("2025-01-01", tz="UTC").as_unit("ms") + days,
            "label": rng.random(size) < 1 / (1 + np.exp(-log_odds)),
        }
    )
    return matrix, rows


def with_grid(name: str, **grid: tuple[float, ...]) -> ModelFamily[Any]:
    family = copy(MODEL_FAMILIES[name])
    family.grid = grid
    return family


def test_search_tries_every_cell_and_finds_the_step() -> None:
    matrix, rows = season_rows(6_000, 3)
    families = [
        with_grid("logistic", C=(0.1,)),
        with_grid("lightgbm", n_estimators=(30,), max_depth=(2, 3), min_samples_leaf=(20,)),
    ]
    data = SearchRows(
        matrix, rows, PeriodFolds(rows, pd.Timedelta(hours=24)), 0.5, matrix[:, 4].astype(float)
    )
    result = search_families(data, families, seed=1)
    assert [(cell.family, cell.params.get("max_depth")) for cell in result.cells] == [
        ("logistic", None), ("lightgbm", 2), ("lightgbm", 3),
    ]  # fmt: skip
    assert result.config.family == "lightgbm", "a linear model cannot represent the step"
    lead = result.compared["logistic"]
    assert 0 < lead["low"] < lead["lead"] < lead["high"]
    assert result.compared["open cart"]["low"] > 0.05, "the rule's feature is noise"
    assert result.folds == "3 time folds"
    repeated = search_families(data, families, seed=1)
    assert (repeated.config, repeated.compared) == (result.config, result.compared)


def cell(family: str, params: dict[str, float], mean_ap: float) -> GridCell:
    return GridCell(params, mean_ap, 0.0, (mean_ap, mean_ap), 0.1, family)


def test_simplest_cell_within_one_standard_error_is_selected() -> None:
    cells = (
        cell("rf", {"n_estimators": 200, "max_depth": 14}, 0.300),
        cell("lightgbm", {"n_estimators": 100, "max_depth": 3}, 0.296),
        cell("logistic", {"C": 0.1}, 0.280),
    )
    noise = np.random.default_rng(1).normal(0, 1, (400, 3))
    means = np.array([one_cell.mean_ap for one_cell in cells])
    assert simplest_within_standard_error(cells, means + 0.05 * noise) == 2, "no difference is significant"
    assert simplest_within_standard_error(cells, means + 0.005 * noise) == 1
    assert simplest_within_standard_error(cells, means + 0.0005 * noise) == 0
    shared = means + 0.05 * noise[:, :1] + 0.0005 * noise
    assert simplest_within_standard_error(cells, shared) == 0, "noise that cells share is no error of pairs"
