"""Certificates have their coverage or a reason why there is none; the F1 threshold is the best."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from retail_core.errors import DataError
from retail_core.model.thresholds import (
    best_f1_threshold,
    highest_certifiable_recall,
    recall_bound,
    recall_threshold,
    refuse_uncertifiable,
    required_buyers,
    sample_row_per_buyer,
)
from tests.examples import examples


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_no_threshold_has_a_higher_f1(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 60))
    probability = np.array(
        data.draw(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7]), min_size=size, max_size=size))
    )
    labels = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    threshold = best_f1_threshold(probability, labels)
    scores = {
        level: f1_score(labels, probability >= level, zero_division=0) for level in np.unique(probability)
    }
    assert scores[threshold] == pytest.approx(max(scores.values()))


@pytest.mark.parametrize(
    ("target", "confidence", "expected"), [(0.95, 0.95, 59), (0.99, 0.95, 299), (0.9, 0.95, 29)]
)
def test_buyers_needed_without_a_miss(target: float, confidence: float, expected: int) -> None:
    assert required_buyers(target, confidence) == expected
    assert (
        recall_bound(expected, expected, confidence)
        >= target
        > recall_bound(expected - 1, expected - 1, confidence)
    )


def test_too_few_buyers_leave_the_certificate_out_with_a_reason() -> None:
    scores = np.linspace(0.1, 0.9, 31)
    result = recall_threshold(scores, 0.95, 0.95)
    assert result.certificate is None
    assert result.reason == (
        "recall 0.95 at 95% needs at least 59 buyers in the certification rows; there are 31: "
        "certificate left out"
    )
    assert (scores >= result.threshold).mean() >= 0.95
    assert (scores > result.threshold).mean() < 0.95


def test_certificate_by_hand() -> None:
    """93 buyers allow exactly one miss for 0.95 at 95 %."""
    scores = np.arange(1, 94) / 100
    certificate = recall_threshold(scores, 0.95, 0.95).certificate
    assert certificate is not None
    assert (certificate.missed, certificate.buyers, certificate.threshold) == (1, 93, 0.02)
    assert certificate.lower_bound == pytest.approx(recall_bound(92, 93, 0.95))
    assert certificate.lower_bound >= 0.95


def test_no_miss_is_the_lowest_buyer_and_states_the_bound_reached() -> None:
    scores = np.array([0.3, 0.05, 0.6])
    result = recall_threshold(scores, 1.0, 0.95)
    assert result.threshold == 0.05
    assert result.certificate is not None
    assert result.certificate.lower_bound == pytest.approx(0.05 ** (1 / 3))
    assert result.reason is None


def test_certified_recall_has_its_coverage() -> None:
    rng = np.random.default_rng(11)
    certified_misses = naive_misses = 0
    for _ in range(500):
        scores = rng.random(200)
        naive_misses += 1 - np.quantile(scores, 0.1, method="lower") < 0.9
        certified_misses += 1 - recall_threshold(scores, 0.9, 0.95).threshold < 0.9
    assert certified_misses / 500 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)
    assert naive_misses / 500 > 0.3


def test_one_row_per_buying_user() -> None:
    users = pd.Series(["a", "b", "a", "c", "a", "b"])
    labels = np.array([True, False, True, True, True, True])
    probability = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    samples = {tuple(sorted(probability[sample_row_per_buyer(users, labels, seed)])) for seed in range(40)}
    assert samples == {(first, 0.4, 0.6) if first < 0.4 else (0.4, first, 0.6) for first in (0.1, 0.3, 0.5)}
    assert np.array_equal(sample_row_per_buyer(users, labels, 5), sample_row_per_buyer(users, labels, 5))


@given(buyers=st.integers(1, 2_000), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_suggested_target_can_be_certified_and_hardly_more(buyers: int, confidence: float) -> None:
    nearest = highest_certifiable_recall(buyers, confidence)
    if nearest > 0:
        refuse_uncertifiable(buyers, nearest, confidence)
    with pytest.raises(DataError, match=f"there are {buyers}"):
        refuse_uncertifiable(buyers, min(nearest + 0.001, 0.9999), confidence)
    refuse_uncertifiable(buyers, 1.0, confidence)


def test_uncertifiable_target_names_the_highest_certifiable() -> None:
    with pytest.raises(DataError) as caught:
        refuse_uncertifiable(31, 0.95, 0.95)
    assert "needs at least 59 buyers in the certification rows, and there are 31" in caught.value.message
    assert "--target-recall 0.907 or less" in str(caught.value.remedy)
    with pytest.raises(DataError) as caught:
        refuse_uncertifiable(0, 0.95, 0.95)
    assert "or less" not in str(caught.value.remedy)
