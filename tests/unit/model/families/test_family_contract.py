"""What every model family must fulfil; a new family is tested here without any change to this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.base import clone

from retail_core.arrays import BoolArray, Float32Array
from retail_core.errors import InputError
from retail_core.model.calibration import fit_calibrator, logit
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.explanations.contributions import (
    global_importance,
    max_explainable_rows,
    shapley_values,
)
from retail_core.model.families import MODEL_FAMILIES, family_of
from retail_core.model.feature_matrix import MISSING
from retail_core.model.onnx_scorers import export_scorers, load_scorers
from retail_core.model.sampling import correct_prior
from retail_core.model.served_model import trusted_types
from tests.rankers import small_config

FACTOR = 0.5


def labelled_matrix(rows: int, seed: int) -> tuple[Float32Array, BoolArray]:
    """Five features: the first two decide, the third is often missing, the others are noise."""
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 2.0, (rows, 5)).astype(np.float32)
    log_odds = -3.5 + 0.5 * matrix[:, 0] + 2.0 * (matrix[:, 1] > 4)
    matrix[rng.random(rows) < 0.3, 2] = MISSING
    return matrix, rng.random(rows) < 1 / (1 + np.exp(-log_odds))


@pytest.fixture(scope="module", params=list(MODEL_FAMILIES))
def model(request: pytest.FixtureRequest) -> CalibratedRanker:
    matrix, labels = labelled_matrix(6_000, 3)
    ranker = small_config(request.param).build(1).fit(matrix[:3_000], labels[:3_000])
    fitted = CalibratedRanker({"daily": ranker}, factor=FACTOR)
    raw = fitted.raw_score(matrix[3_000:])
    return fitted.set_params(calibrators={"daily": fit_calibrator(raw, labels[3_000:])})


def test_row_gets_the_same_bits_in_any_batch(model: CalibratedRanker) -> None:
    matrix, _ = labelled_matrix(20_000, 5)
    together = model.raw_score(matrix)
    alone = [model.raw_score(matrix[row : row + 1])[0] for row in range(0, len(matrix), 41)]
    assert alone == together[::41].tolist()
    batches = [model.raw_score(matrix[start : start + 37]) for start in range(0, 370, 37)]
    assert np.concatenate(batches).tolist() == together[:370].tolist()


def test_stored_and_loaded_model_gives_the_same_scores(model: CalibratedRanker, tmp_path: Path) -> None:
    matrix, _ = labelled_matrix(500, 6)
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    assert set(skops.io.get_untrusted_types(file=path)) <= set(trusted_types())
    loaded = skops.io.load(path, trusted=trusted_types())
    assert family_of(loaded.ranker()) is family_of(model.ranker())
    assert np.array_equal(loaded.raw_score(matrix), model.raw_score(matrix))
    assert np.array_equal(loaded.predict_proba(matrix), model.predict_proba(matrix))


@pytest.mark.parametrize("family", list(MODEL_FAMILIES))
def test_same_seed_fits_the_same_model(family: str) -> None:
    matrix, labels = labelled_matrix(2_000, 3)
    ranker = small_config(family).build(4)
    first, second = (
        CalibratedRanker({"daily": clone(ranker).fit(matrix, labels)}).raw_score(matrix) for _ in range(2)
    )
    assert np.array_equal(first, second)
    with pytest.raises((InputError, ValueError, AttributeError)):
        clone(ranker).predict_proba(matrix)


def test_shapley_values_add_up_to_the_score(model: CalibratedRanker) -> None:
    matrix, _ = labelled_matrix(50, 2)
    values = shapley_values(model, matrix)
    assert values.shape == (50, 5)
    score = family_of(model.ranker()).score(model.ranker(), matrix)
    remainders = [np.ptp(output - values.sum(axis=1)) for output in (logit(score), score)]
    assert min(remainders) < 1e-8, "in log odds or in probability, all rows leave the same constant"


def test_shapley_values_name_the_features_that_decide(model: CalibratedRanker) -> None:
    shares = global_importance(model, labelled_matrix(300, 3)[0])
    assert shares.sum() == pytest.approx(1)
    assert set(np.argsort(-shares)[:2]) == {0, 1}


def test_work_of_shapley_values_is_bounded(model: CalibratedRanker) -> None:
    assert max_explainable_rows(model, 0) == 1
    assert max_explainable_rows(model, 2e9) >= 2 * max_explainable_rows(model, 1e9) > 2_000


def test_fast_form_gives_the_rankers_own_scores(model: CalibratedRanker, tmp_path: Path) -> None:
    matrix, _ = labelled_matrix(40, 7)
    paths = export_scorers(model, tmp_path)
    has_fast_form = family_of(model.ranker()).fast_form(model.ranker()) is not None
    assert len(paths) == has_fast_form
    for scorer in load_scorers(tmp_path).values():
        assert np.array_equal(correct_prior(scorer(matrix), FACTOR), model.raw_score(matrix))
