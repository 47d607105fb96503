"""Fast forms are stored by policy and checked when they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retail_core.errors import IntegrityError
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families.random_forest import build_forest
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.linear import LogisticRanker
from retail_core.model.onnx_scorers import export_scorers, load_scorer, load_scorers
from retail_core.model.sampling import correct_prior


def test_family_without_a_fast_form_writes_nothing(tmp_path: Path) -> None:
    assert export_scorers(CalibratedRanker({"daily": LogisticRanker()}), tmp_path) == []
    assert load_scorers(tmp_path) == {}


def test_each_policy_is_scored_by_its_own_ranker(tmp_path: Path) -> None:
    rows = np.random.default_rng(9).exponential(10, (600, 5))
    rankers = {
        policy: build_forest(trees=12, depth=6, leaf=5, seed=1).fit(to_matrix(rows), rows[:, column] > 10)
        for column, policy in enumerate(("daily", "in-session"))
    }
    model = CalibratedRanker(rankers)
    export_scorers(model, tmp_path)
    scores = {policy: score(to_matrix(rows)) for policy, score in load_scorers(tmp_path).items()}
    for policy in rankers:
        assert np.array_equal(correct_prior(scores[policy], 1.0), model.raw_score(rows, policy))
    assert not np.array_equal(scores["daily"], scores["in-session"])


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_scorer(path)
