"""The ONNX form of a forest gives the forest's own scores, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from retail_core.errors import IntegrityError
from retail_core.model.estimator import CalibratedRanker, build_forest
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.linear import LogisticRanker
from retail_core.model.onnx_scorers import export_scorers, load_scorer, load_scorers, rows_at_thresholds
from retail_core.model.sampling import correct_prior


def fitted(seed: int, trees: int = 12, depth: int = 6) -> CalibratedRanker:
    generator = np.random.default_rng(seed)
    features = generator.exponential(10, (600, 5)).round(2)
    features[generator.random((600, 5)) < 0.1] = np.nan
    bought = generator.random(600) < 1 / (1 + np.nan_to_num(features[:, 0]))
    forest = build_forest(trees=trees, depth=depth, leaf=5, seed=seed)
    return CalibratedRanker({"daily": forest.fit(to_matrix(features), bought)}, factor=0.2)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_every_row_on_and_beside_a_split_scores_as_in_the_forest(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rows: int
) -> None:
    model = fitted(seed)
    (path,) = export_scorers(model, tmp_path_factory.mktemp("onnx"))
    probes = rows_at_thresholds(
        cast("RandomForestClassifier", model.ranker()), np.random.default_rng(seed + 1)
    )
    score = load_scorer(path)
    together = correct_prior(score(probes), model.factor)
    assert np.array_equal(together, model.raw_score(probes))
    assert np.array_equal(correct_prior(score(probes[:rows]), model.factor), together[:rows])


def test_a_forest_of_lone_leaves_has_one_score(tmp_path: Path) -> None:
    features = np.ones((40, 3), dtype=np.float32)
    forest = build_forest(trees=3, depth=2, leaf=5, seed=1).fit(features, np.arange(40) % 4 == 0)
    model = CalibratedRanker({"daily": forest})
    export_scorers(model, tmp_path)
    assert np.array_equal(load_scorers(tmp_path)["daily"](features), model.raw_score(features))


def test_another_family_has_no_such_form(tmp_path: Path) -> None:
    assert export_scorers(CalibratedRanker({"daily": LogisticRanker()}), tmp_path) == []
    assert load_scorers(tmp_path) == {}


def test_every_policy_is_scored_by_its_own_forest(tmp_path: Path) -> None:
    rankers = {policy: fitted(seed).ranker() for seed, policy in enumerate(("daily", "in-session"))}
    model, rows = CalibratedRanker(rankers), np.random.default_rng(9).exponential(10, (50, 5))
    export_scorers(model, tmp_path)
    scores = {policy: score(to_matrix(rows)) for policy, score in load_scorers(tmp_path).items()}
    for policy in rankers:
        assert np.array_equal(correct_prior(scores[policy], 1.0), model.raw_score(rows, policy))
    assert not np.array_equal(scores["daily"], scores["in-session"])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranker.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_scorer(path)
