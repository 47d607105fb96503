"""The family `lightgbm`: its Shapley values add up to the booster's raw score."""

from __future__ import annotations

import numpy as np

from retail_core.model.families import MODEL_FAMILIES

FAMILY = MODEL_FAMILIES["lightgbm"]


def test_shapley_values_add_up_to_the_log_odds() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.gamma(1.0, 2.0, (2_000, 3)).astype(np.float32)
    ranker = FAMILY.build({"n_estimators": 20, "max_depth": 3}, 1).fit(matrix, matrix[:, 0] > 3)
    raw = ranker.booster.predict(matrix, raw_score=True)
    assert np.ptp(raw - FAMILY.shapley_values(ranker, matrix).sum(axis=1)) < 1e-9


def test_complexity_and_steps_grow_with_trees_and_depth() -> None:
    small, large = ({"n_estimators": trees, "max_depth": depth} for trees, depth in ((10, 2), (20, 3)))
    assert FAMILY.complexity(small) == 40
    assert FAMILY.complexity(large) == 160
    matrix = np.random.default_rng(1).gamma(1.0, 2.0, (500, 3)).astype(np.float32)
    rankers = [FAMILY.build(params, 1).fit(matrix, matrix[:, 0] > 3) for params in (small, large)]
    assert [FAMILY.shapley_steps(ranker) for ranker in rankers] == [10 * 4 * 4, 20 * 8 * 9]
