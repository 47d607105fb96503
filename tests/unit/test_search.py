"""Every family gives one row the bits it gives among many, is stored whole, and the simplest equal wins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone

from retail_core.arrays import Float32Array
from retail_core.errors import InputError
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families import FAMILIES, Family, RankerConfig, select_families
from retail_core.model.feature_matrix import MISSING
from retail_core.model.search import GridCell, SearchRows, search_families, simplest_within_standard_error
from retail_core.model.served_model import TRUSTED_TYPES
from retail_core.model.splits import PeriodFolds

SMALL = {
    "logistic": {"C": 0.1},
    "lightgbm": {"n_estimators": 30, "max_depth": 3, "min_samples_leaf": 20},
    "rf": {"n_estimators": 20, "max_depth": 6, "min_samples_leaf": 5},
}


def shop_rows(rows: int, seed: int) -> tuple[Float32Array, pd.DataFrame]:
    """Rows of a season whose second feature decides in steps, whose third is often missing."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 2.0, (rows, 5)).astype(np.float32)
    odds = -3.5 + 0.5 * matrix[:, 0] + 2.0 * (matrix[:, 1] > 4)
    matrix[rng.random(rows) < 0.3, 2] = MISSING
    days = pd.to_timedelta(np.sort(rng.integers(0, 24, rows)), unit="D")
    frame = pd.DataFrame(
        {
            "user_id": [f"u{one}" for one in rng.integers(0, rows // 6, rows)],
            "as_of": pd.Timestamp("2025-01-01", tz="UTC").as_unit("ms") + days,
            "label": rng.random(rows) < 1 / (1 + np.exp(-odds)),
        }
    )
    return matrix, frame


@pytest.fixture(scope="module")
def rows() -> tuple[Float32Array, pd.DataFrame]:
    return shop_rows(6_000, 3)


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest, rows: tuple[Float32Array, pd.DataFrame]) -> CalibratedRanker:
    matrix, frame = rows
    labels = frame["label"].to_numpy(bool)
    ranker = RankerConfig(request.param, SMALL[request.param]).build(1).fit(matrix[:3_000], labels[:3_000])
    fitted = CalibratedRanker({"daily": ranker}, factor=0.5)
    raw = fitted.raw_score(matrix[3_000:])
    return fitted.set_params(calibrators={"daily": fit_calibrator(raw, labels[3_000:])})


def test_one_row_or_many_give_the_same_bits(
    model: CalibratedRanker, rows: tuple[Float32Array, pd.DataFrame]
) -> None:
    many = shop_rows(20_000, 5)[0]
    together = model.raw_score(many)
    alone = [model.raw_score(many[row : row + 1])[0] for row in range(0, len(many), 41)]
    assert alone == together[::41].tolist()
    some = [model.raw_score(many[start : start + 37]) for start in range(0, 370, 37)]
    assert np.concatenate(some).tolist() == together[:370].tolist()


def test_stored_and_loaded_it_answers_the_same(
    model: CalibratedRanker, rows: tuple[Float32Array, pd.DataFrame], tmp_path: Path
) -> None:
    skops.io.dump(model, tmp_path / "model.skops")
    assert set(skops.io.get_untrusted_types(file=tmp_path / "model.skops")) <= set(TRUSTED_TYPES)
    loaded = skops.io.load(tmp_path / "model.skops", trusted=TRUSTED_TYPES)
    assert np.array_equal(loaded.raw_score(rows[0]), model.raw_score(rows[0]))
    assert np.array_equal(loaded.predict_proba(rows[0]), model.predict_proba(rows[0]))


def test_what_it_looks_at_is_what_decides(model: CalibratedRanker) -> None:
    importances = model.importances()
    assert importances.sum() == pytest.approx(1)
    assert set(np.argsort(-importances)[:2]) == {0, 1}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_same_seed_grows_the_same_model(family: str, rows: tuple[Float32Array, pd.DataFrame]) -> None:
    matrix, frame = rows[0][:2_000], rows[1]["label"].to_numpy(bool)[:2_000]
    ranker = RankerConfig(family, SMALL[family]).build(4)
    first, second = (
        CalibratedRanker({"daily": clone(ranker).fit(matrix, frame)}).raw_score(matrix) for _ in range(2)
    )
    assert np.array_equal(first, second)
    with pytest.raises((InputError, ValueError, AttributeError)):
        clone(ranker).predict_proba(matrix)


def test_the_search_tries_every_cell_and_finds_the_step(rows: tuple[Float32Array, pd.DataFrame]) -> None:
    matrix, frame = rows
    grids = [
        Family(name, name, {key: (value,) for key, value in SMALL[name].items()} | more)
        for name, more in (("logistic", {}), ("lightgbm", {"max_depth": (2, 3)}))
    ]
    folds = PeriodFolds(frame, pd.Timedelta(hours=24))
    rule = matrix[:, 4].astype(np.float64)
    found = search_families(SearchRows(matrix, frame, folds, 0.5, rule), grids, seed=1)
    assert [(cell.family, cell.params.get("max_depth")) for cell in found.cells] == [
        ("logistic", None), ("lightgbm", 2), ("lightgbm", 3),
    ]  # fmt: skip
    assert found.config.family == "lightgbm", "a line cannot see the step"
    lead = found.compared["logistic"]
    assert 0 < lead["low"] < lead["lead"] < lead["high"]
    assert found.compared["open cart"]["low"] > 0.05, "the rule looks at noise"
    assert found.folds == "3 time folds"
    again = search_families(SearchRows(matrix, frame, folds, 0.5, rule), grids, seed=1)
    assert (again.config, again.compared) == (found.config, found.compared)


def cell(family: str, params: dict[str, float], mean: float) -> GridCell:
    return GridCell(params, mean, 0.0, (mean, mean), 0.1, family)


def test_the_simplest_within_one_standard_error_wins() -> None:
    cells = (
        cell("rf", {"n_estimators": 200, "max_depth": 14}, 0.300),
        cell("lightgbm", {"n_estimators": 100, "max_depth": 3}, 0.296),
        cell("logistic", {"C": 0.1}, 0.280),
    )
    noise = np.random.default_rng(1).normal(0, 1, (400, 3))
    means = np.array([one.mean_ap for one in cells])
    assert simplest_within_standard_error(cells, means + 0.05 * noise) == 2, "nothing can be told apart"
    assert simplest_within_standard_error(cells, means + 0.005 * noise) == 1
    assert simplest_within_standard_error(cells, means + 0.0005 * noise) == 0
    shared = means + 0.05 * noise[:, :1] + 0.0005 * noise
    assert simplest_within_standard_error(cells, shared) == 0, (
        "what all cells share is no error of their difference"
    )


def test_model_names() -> None:
    assert {one.name for one in select_families("auto")} == {"logistic", "lightgbm", "rf"}
    assert [one.name for one in select_families("rf")] == ["rf"]
    with pytest.raises(InputError, match="no model family 'xgboost'"):
        select_families("xgboost")
