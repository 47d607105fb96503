"""The stored estimator is the fitted one; a row gets the same bits in any batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
from numpy.typing import NDArray
from sklearn.base import clone

from retail_core.errors import InputError
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families.random_forest import build_forest
from retail_core.model.feature_matrix import MISSING, to_matrix
from retail_core.model.served_model import trusted_types

Data = tuple[NDArray[np.float64], NDArray[np.bool_]]


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(4)
    features = np.round(rng.gamma(1.0, 2.0, (20_000, 6)), 1)
    labels = rng.random(20_000) < 1 / (1 + np.exp(4 - features[:, 0] * 0.8 + features[:, 1] * 0.3))
    features[rng.random(features.shape) < 0.15] = np.nan
    return features, labels


@pytest.fixture(scope="module")
def model(data: Data) -> CalibratedRanker:
    features, labels = data
    forest = build_forest(trees=25, depth=8, leaf=5, seed=3).fit(to_matrix(features[:8_000]), labels[:8_000])
    ranker = CalibratedRanker({"daily": forest}, factor=0.25)
    raw = ranker.raw_score(features[8_000:])
    return ranker.set_params(
        calibrators={
            "daily": fit_calibrator(raw, labels[8_000:]),
            "first-visit": fit_calibrator(raw[:1_000], labels[8_000:9_000]),
        }
    )


def test_scores_equal_the_stock_forest(model: CalibratedRanker, data: Data) -> None:
    stock = model.ranker().predict_proba(to_matrix(data[0]))[:, 1]
    factor = model.factor
    assert np.allclose(model.raw_score(data[0]), factor * stock / (factor * stock + 1 - stock), atol=1e-12)


def test_row_gets_the_same_bits_in_any_batch(model: CalibratedRanker, data: Data) -> None:
    together = model.probability(data[0], "daily")
    alone = [model.probability(data[0][row : row + 1], "daily")[0] for row in range(0, 20_000, 97)]
    assert alone == together[::97].tolist()


def test_rows_at_thresholds_get_the_same_bits_in_any_batch(model: CalibratedRanker, data: Data) -> None:
    """Rows exactly at thresholds of the trees, and their float64 neighbours."""
    tree = model.ranker().estimators_[0].tree_
    row = np.nan_to_num(data[0][:1], nan=1.0).repeat(len(tree.threshold), axis=0)
    for number, (feature, threshold) in enumerate(zip(tree.feature, tree.threshold, strict=True)):
        if feature >= 0:
            row[number, feature] = threshold
    rows = np.vstack([row, np.nextafter(row, np.inf), np.nextafter(row, -np.inf)])
    together = model.raw_score(rows)
    assert together.tolist() == [model.raw_score(rows[number : number + 1])[0] for number in range(len(rows))]


def test_nulls_are_larger_than_any_value() -> None:
    matrix = to_matrix(pd.DataFrame({"a": [1.0, np.nan], "b": [1e300, -np.inf]}))
    assert matrix.dtype == np.float32
    assert matrix[1, 0] == MISSING
    assert np.isfinite(matrix).all()


def test_stored_and_loaded_model_gives_the_same_probabilities(
    model: CalibratedRanker, data: Data, tmp_path: Path
) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    assert set(skops.io.get_untrusted_types(file=path)) <= set(trusted_types())
    loaded = skops.io.load(path, trusted=trusted_types())
    assert np.array_equal(loaded.predict_proba(data[0][:500]), model.predict_proba(data[0][:500]))
    assert np.array_equal(loaded.predict(data[0][:500]), model.predict(data[0][:500]))


def test_calibration_keeps_the_order_within_a_policy(model: CalibratedRanker, data: Data) -> None:
    raw = model.raw_score(data[0])
    for policy in ("daily", "first-visit"):
        assert np.all(np.diff(model.calibrate(raw, policy)[np.argsort(raw, kind="stable")]) >= 0)


def test_it_is_a_scikit_learn_estimator(model: CalibratedRanker, data: Data) -> None:
    copy = clone(CalibratedRanker({"daily": build_forest(trees=2, depth=2, leaf=5, seed=1)}, factor=0.5))
    assert copy.get_params()["factor"] == 0.5
    assert copy.fit(*data).raw_score(data[0][:3]).shape == (3,)
    assert np.allclose(model.predict_proba(data[0][:9]).sum(axis=1), 1)


def test_wrong_shapes_and_policies_are_refused(model: CalibratedRanker, data: Data) -> None:
    with pytest.raises(InputError, match="expects 6 feature columns"):
        model.raw_score(data[0][:, :5])
    with pytest.raises(InputError, match="not calibrated for the cut-off policy 'in-session'"):
        model.calibrate(np.zeros(1), "in-session")
    with pytest.raises(InputError, match="no ranker for the cut-off policy 'in-session'"):
        model.raw_score(data[0][:1], "in-session")
    with pytest.raises(InputError, match="no ranker"):
        CalibratedRanker().raw_score(data[0][:1])
