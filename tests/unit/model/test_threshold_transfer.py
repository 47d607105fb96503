"""Thresholds are transferred between models as contact shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retail_core.model.threshold_transfer import (
    BuyerScores,
    contact_share_to_reach,
    contact_share_within_blocks,
    thresholds_at_contact_share,
)

scores = st.lists(st.integers(0, 8), min_size=1, max_size=40).map(lambda ranks: np.array(ranks) / 8)


@given(scores, st.data())
def test_contact_share_is_the_share_at_or_above(score: np.ndarray, data: st.DataObject) -> None:
    weights = np.array(
        data.draw(st.lists(st.integers(1, 5), min_size=len(score), max_size=len(score))), float
    )
    shares = contact_share_to_reach(score, weights)
    for place, value in enumerate(score):
        assert shares[place] == pytest.approx(weights[score >= value].sum() / weights.sum())


@given(scores)
def test_transfer_to_the_same_scale_keeps_the_threshold(score: np.ndarray) -> None:
    ones = np.ones(len(score))
    assert np.array_equal(
        thresholds_at_contact_share(contact_share_to_reach(score), score, ones), np.sort(score)
    )


def test_transfer_to_another_scale_keeps_the_contact_share() -> None:
    """The number of contacted users does not depend on the scale of the served model."""
    rng = np.random.default_rng(5)
    evaluated = rng.beta(1, 30, 5_000)
    for served in (evaluated / 10, evaluated * 3, rng.beta(1, 10, 5_000)):
        (threshold,) = thresholds_at_contact_share(
            contact_share_to_reach(evaluated)[[17]], served, np.ones(5_000)
        )
        assert (served >= threshold).mean() == pytest.approx((evaluated >= evaluated[17]).mean(), abs=1e-3)


def test_contact_share_is_computed_within_blocks() -> None:
    score, blocks = np.array([0.1, 0.2, 10.0, 20.0]), np.array([0, 0, 1, 1])
    assert contact_share_within_blocks(score, blocks, np.ones(4)).tolist() == [1.0, 0.5, 1.0, 0.5]


def test_lower_threshold_of_the_two_is_used_and_zero_without_buyers() -> None:
    low, high = np.linspace(0.01, 0.5, 100), np.linspace(0.2, 0.6, 100)
    assert BuyerScores(low, high).threshold(0.9, 0.95) == BuyerScores(high, low).threshold(0.9, 0.95) < 0.1
    assert BuyerScores(np.empty(0), high).threshold(1.0, 0.95) == 0.2
    assert BuyerScores(np.empty(0), np.empty(0)).threshold(0.9, 0.95) == 0.0
    restored = BuyerScores.from_dict(BuyerScores(low, high).to_dict())
    assert np.array_equal(restored.held_out, low)
    assert np.array_equal(restored.cross_fitted, high)
