"""Every cut-off policy with enough buyers has a ranker that its own rows taught."""

from __future__ import annotations

import numpy as np
import pandas as pd

from retail_core.model.estimator import Matrix
from retail_core.model.families import Choice
from retail_core.model.fitting import OWN_BUYERS, fit_ranker, raw_scores
from retail_core.model.sampling import Sampling

LINE = Choice("logistic", {"C": 1.0})
WHOLE = Sampling(1.0, 1.0)


def rows_of(buyers: dict[str, int]) -> tuple[pd.DataFrame, Matrix]:
    """300 rows a policy, so many of them buyers; on `daily` large values buy, elsewhere small ones."""
    frames, parts = [], []
    for number, (policy, count) in enumerate(buyers.items()):
        value = np.random.default_rng(number).normal(size=300)
        order = np.argsort(-value if policy == "daily" else value)
        labels = np.zeros(300, bool)
        labels[order[:count]] = True
        frames.append(pd.DataFrame({"policy": policy, "label": labels}))
        parts.append(value[:, None].astype(np.float32))
    return pd.concat(frames, ignore_index=True), np.concatenate(parts)


def test_policies_that_contradict_each_other_do_not_spoil_each_other() -> None:
    rows, matrix = rows_of({"daily": 60, "in-session": 60})
    model = fit_ranker(rows, matrix, WHOLE, LINE, seed=1)
    large = np.array([[3.0]], np.float32)
    assert model.primary == "daily"
    assert model.raw_score(large, "daily")[0] > 0.9
    assert model.raw_score(large, "in-session")[0] < 0.1
    assert model.raw_score(large)[0] == model.raw_score(large, "daily")[0]


def test_each_row_is_scored_by_the_ranker_of_its_policy() -> None:
    rows, matrix = rows_of({"daily": 60, "in-session": 60})
    mixed = np.random.default_rng(5).permutation(len(rows))
    rows, matrix = rows.iloc[mixed].reset_index(drop=True), matrix[mixed]
    model = fit_ranker(rows, matrix, WHOLE, LINE, seed=1)
    raw = raw_scores(model, rows, matrix)
    for policy in ("daily", "in-session"):
        mine = rows["policy"].eq(policy).to_numpy(bool)
        assert np.array_equal(raw[mine], model.raw_score(matrix[mine], policy))


def test_a_policy_with_too_few_buyers_learns_from_all_rows() -> None:
    rows, matrix = rows_of({"daily": 60, "in-session": OWN_BUYERS - 1})
    model = fit_ranker(rows, matrix, WHOLE, LINE, seed=1)
    every = fit_ranker(rows.assign(policy="daily"), matrix, WHOLE, LINE, seed=1)
    assert np.array_equal(model.raw_score(matrix, "in-session"), every.raw_score(matrix, "daily"))
    assert not np.array_equal(model.raw_score(matrix, "daily"), every.raw_score(matrix, "daily"))
