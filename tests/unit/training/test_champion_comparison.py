"""A challenger is promoted only if its lead is significant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from retail_core.registry.promotion import GateVerdict
from retail_core.training.champion_comparison import PairedScores, decide_promotion


def paired_scores(seed: int, challenger_noise: float, champion_noise: float) -> PairedScores:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=4_000)
    labels = rng.random(4_000) < 1 / (1 + np.exp(3 - 1.5 * truth))
    users = pd.Series([f"u{number % 800}" for number in range(4_000)])
    scores = [truth + noise * rng.normal(size=4_000) for noise in (champion_noise, challenger_noise)]
    return PairedScores(users, labels, scores[0], scores[1], later=True, champion_version="1")


def test_better_challenger_is_promoted_and_equal_or_worse_is_not() -> None:
    assert decide_promotion(paired_scores(1, 0.1, 1.5), leaky=False, seed=1).promote
    assert not decide_promotion(paired_scores(1, 1.5, 0.1), leaky=False, seed=1).promote
    assert not decide_promotion(paired_scores(1, 0.1, 1.5), leaky=True, seed=1).promote
    equal = paired_scores(2, 0.5, 0.5)
    same = PairedScores(
        equal.users, equal.labels, equal.champion, equal.champion, later=True, champion_version="1"
    )
    assert decide_promotion(same, leaky=False, seed=1).evidence["ap_difference"] == 0
    assert not decide_promotion(same, leaky=False, seed=1).promote
    assert not any(
        decide_promotion(paired_scores(seed, 0.5, 0.5), leaky=False, seed=1).promote for seed in range(3, 9)
    )


def test_verdicts_and_what_they_rest_on() -> None:
    worse = decide_promotion(paired_scores(1, 1.5, 0.1), leaky=False, seed=1)
    assert (worse.verdict, worse.evidence["interval"][1] < 0) == (GateVerdict.REJECTED, True)
    undecided = decide_promotion(paired_scores(3, 0.5, 0.5), leaky=False, seed=1)
    low, high = undecided.evidence["interval"]
    assert (undecided.verdict, low <= 0 <= high) == (GateVerdict.SHADOW, True)
    assert "includes zero" in undecided.reason
    assert decide_promotion(None, leaky=True, seed=1).verdict == GateVerdict.REFUSED
    tags = worse.tags()
    assert (tags["verdict"], tags["gate.champion"]) == ("rejected", "1")
    assert tags["gate.interval"].startswith("-")


def test_a_champion_that_knows_the_rows_does_not_reject_the_challenger() -> None:
    known = replace(paired_scores(1, 1.5, 0.1), later=False)
    assert decide_promotion(known, leaky=False, seed=1).verdict == GateVerdict.SHADOW


def test_scores_of_different_fits_are_compared_within_their_block_only() -> None:
    pairs = paired_scores(1, 0.3, 0.3)
    blocks = np.repeat([0, 1], 2_000)
    shifted = replace(pairs, challenger=pairs.champion + 10.0 * blocks, blocks=blocks)
    assert decide_promotion(shifted, leaky=False, seed=1).evidence["ap_difference"] == pytest.approx(0)
    one_block = replace(shifted, blocks=None)
    assert decide_promotion(one_block, leaky=False, seed=1).evidence["ap_difference"] < -0.05
