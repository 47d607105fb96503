"""Shapley values add up to the answer; reasons are sentences with units, most important first."""

from __future__ import annotations

import numpy as np
import pytest

from retail_core.features.definitions import Question, default_feature_set
from retail_core.model.calibration import logit
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.explain import contributions, global_importance, reasons
from retail_core.model.families import FAMILIES, Choice
from retail_core.model.matrix import MISSING, Matrix

FEATURES = default_feature_set(Question()).select(
    ["cart_count", "cart_oldest_hours", "hours_since_view_item", "spend_7d", "weekend"]
)
SMALL = {
    "logistic": {"C": 0.1},
    "lightgbm": {"n_estimators": 30, "max_depth": 3, "min_samples_leaf": 20},
    "rf": {"n_estimators": 15, "max_depth": 5, "min_samples_leaf": 5},
}


CART, OLDEST, VIEWED, SPEND, WEEKEND = (
    FEATURES.columns.index(name)
    for name in ("cart_count", "cart_oldest_hours", "hours_since_view_item", "spend_7d", "weekend")
)


def rows_of(size: int, seed: int) -> tuple[Matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.gamma(1.0, 2.0, (size, 5)).astype(np.float32)
    matrix[:, CART] = rng.integers(0, 4, size)
    matrix[matrix[:, CART] == 0, OLDEST] = MISSING
    matrix[:, WEEKEND] = rng.integers(0, 2, size)
    odds = -3 + 1.2 * matrix[:, CART] - 0.4 * matrix[:, VIEWED]
    return matrix, rng.random(size) < 1 / (1 + np.exp(-odds))


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest) -> CalibratedRanker:
    matrix, labels = rows_of(4_000, 1)
    return CalibratedRanker(Choice(request.param, SMALL[request.param]).build(1).fit(matrix, labels))


def test_contributions_add_up_to_the_answer(model: CalibratedRanker) -> None:
    matrix = rows_of(50, 2)[0]
    values = contributions(model, matrix)
    assert values.shape == (50, 5)
    score = model.raw_score(matrix)
    answer = score if len(getattr(model.ranker, "estimators_", ())) else logit(score)
    distance = answer - values.sum(axis=1)
    assert np.ptp(distance) < 1e-6, "one constant, the average, is left"


def test_reasons_are_words_with_units(model: CalibratedRanker) -> None:
    rows = np.zeros((2, 5), np.float32)
    rows[:, [CART, OLDEST, VIEWED, SPEND]] = [[3, 5.2, 0.5, 12_345], [0, MISSING, 90, 0]]
    full, empty = reasons(model, FEATURES, rows)
    assert "3 items in the cart for 5 h" in full[:2]
    assert 1 <= len(full) <= 3
    assert len([one for one in full if "cart" in one]) == 1, "one sentence on one matter"
    assert not any("1e+09" in one or "nan" in one for one in full + empty)
    assert reasons(model, FEATURES, rows[:1], most=1) == [full[:1]]


def test_what_decides_is_what_matters(model: CalibratedRanker) -> None:
    shares = global_importance(model, rows_of(300, 3)[0])
    assert shares.sum() == pytest.approx(1)
    assert VIEWED in np.argsort(-shares)[:3]
    assert shares[[CART, OLDEST]].sum() > shares[[SPEND, WEEKEND]].sum()
