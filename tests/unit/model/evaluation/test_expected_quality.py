"""Expected quality of a list equals the mean of what outcomes drawn from the probabilities give."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from retail_core.model.evaluation.expected_quality import estimate_quality


def test_the_estimates_are_the_means_over_drawn_outcomes() -> None:
    rng = np.random.default_rng(1)
    probability = rng.beta(0.5, 12, 2_000)
    will_purchase = probability > 0.15
    estimate = estimate_quality(probability, will_purchase)
    outcomes = rng.random((300, 2_000)) < probability
    buyers, hits = outcomes.sum(axis=1), (outcomes & will_purchase).sum(axis=1)
    assert estimate.expected_buyers == pytest.approx(buyers.mean(), rel=0.02)
    assert estimate.expected_precision == pytest.approx((hits / will_purchase.sum()).mean(), rel=0.02)
    assert estimate.expected_recall == pytest.approx((hits / buyers).mean(), rel=0.02)
    assert estimate.expected_f1 == pytest.approx((2 * hits / (buyers + will_purchase.sum())).mean(), rel=0.02)
    drawn = [average_precision_score(outcome, probability) for outcome in outcomes[:100]]
    assert estimate.expected_ap == pytest.approx(np.mean(drawn), rel=0.03)
    inside = (estimate.expected_buyers_low <= buyers) & (buyers <= estimate.expected_buyers_high)
    assert inside.mean() >= 0.95


def test_where_nobody_is_expected_to_buy_the_ratios_are_unknown() -> None:
    estimate = estimate_quality(np.zeros(3), np.zeros(3, bool))
    assert (estimate.expected_buyers, estimate.expected_buyers_low, estimate.expected_buyers_high) == (
        0,
        0,
        0,
    )
    assert estimate.expected_precision is None
    assert estimate.expected_recall is None
    assert estimate.expected_f1 is None
    assert estimate.expected_ap is None
