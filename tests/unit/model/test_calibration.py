"""Prior correction is exact; calibrators are monotone, continuous and reduce the calibration error."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from retail_core.model.calibration import (
    expit,
    fit_calibrator,
    logit,
    reliability,
)
from retail_core.model.evaluation.metrics import ScoredRows, evaluate
from retail_core.model.sampling import Sampling, correct_prior, plan_sampling
from tests.examples import examples


@given(
    buyers=st.integers(1, 10_000),
    non_buyers=st.integers(1, 10_000),
    buyer_rate=st.floats(0.01, 1.0),
    non_buyer_rate=st.floats(0.001, 1.0),
)
def test_prior_correction_is_exact(
    buyers: int, non_buyers: int, buyer_rate: float, non_buyer_rate: float
) -> None:
    """A group of rows with the given numbers of buyers and non-buyers, sampled at the given rates."""
    score = buyers * buyer_rate / (buyers * buyer_rate + non_buyers * non_buyer_rate)
    corrected = correct_prior(np.array([score]), Sampling(buyer_rate, non_buyer_rate).factor)
    assert corrected[0] == pytest.approx(buyers / (buyers + non_buyers), rel=1e-9)


def test_sampling_keeps_all_buyers_where_they_fit() -> None:
    labels = np.arange(500_000) % 100 == 0
    sampling = plan_sampling(labels, 60_000)
    assert sampling.positive_rate == 1.0
    assert sampling.negative_rate == pytest.approx(25_000 / 495_000)
    assert plan_sampling(np.arange(100) % 2 == 0, 60_000) == Sampling(1.0, 1.0)
    crowded = plan_sampling(np.arange(100_000) % 2 == 0, 10_000)
    assert crowded.positive_rate == crowded.negative_rate == pytest.approx(0.1)


def test_samples_are_nested_and_weighted_by_their_rate() -> None:
    rows = pd.DataFrame(
        {
            "user_id": [f"u{number % 700}" for number in range(70_000)],
            "as_of": pd.Timestamp("2025-01-01", tz="UTC").as_unit("ms")
            + pd.to_timedelta(np.arange(70_000) // 700, unit="D"),
            "label": np.arange(70_000) % 50 == 0,
        }
    )
    small, large = Sampling(1.0, 0.1).select(rows, 7), Sampling(1.0, 0.3).select(rows, 7)
    assert not (small & ~large).any()
    assert small[rows["label"]].all()
    sampled = small & ~rows["label"].to_numpy(bool)
    assert sampled.sum() == pytest.approx(0.1 * (~rows["label"]).sum(), rel=0.05)
    assert Sampling(1.0, 0.1).weights(np.array([True, False])).tolist() == [1.0, 10.0]
    shuffled = rows.sample(frac=1, random_state=1)
    assert np.array_equal(Sampling(1.0, 0.1).select(shuffled, 7), small[shuffled.index])


def calibration_error(probability: np.ndarray, labels: np.ndarray) -> float:
    users = pd.Series(np.arange(len(labels)).astype(str))
    return float(evaluate(ScoredRows(users, labels, probability, probability), 0.5)["ece"] or 0.0)


def overconfident_scores(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident scores and labels."""
    rng = np.random.default_rng(seed)
    truth = expit(rng.normal(-3, 1.3, rows))
    return expit(2 * logit(truth) + 1.5), rng.random(rows) < truth


@pytest.mark.parametrize(("rows", "method"), [(3_000, "sigmoid"), (60_000, "isotonic")])
def test_calibration_corrects_overconfident_scores(rows: int, method: str) -> None:
    score, labels = overconfident_scores(rows, 1)
    calibrator = fit_calibrator(score, labels)
    assert calibrator.method == method
    test_score, test_labels = overconfident_scores(60_000, 2)
    assert calibration_error(test_score, test_labels) > 0.03
    assert calibration_error(calibrator(test_score), test_labels) < 0.01


@settings(max_examples=examples(30), deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.sampled_from([200, 2_000, 20_000]))
def test_calibrators_keep_the_order_and_are_continuous(seed: int, rows: int) -> None:
    score, labels = overconfident_scores(rows, seed)
    labels[:2] = [True, False]
    calibrator = fit_calibrator(score, labels)
    ordered = np.sort(score)
    values = calibrator(ordered)
    assert np.all(np.diff(values) >= 0)
    assert values.min() > 0
    assert values.max() < 1
    assert np.all(np.diff(calibrator.scores) > 0)
    assert np.all(np.diff(calibrator.values) > 0)
    assert np.abs(calibrator(np.nextafter(ordered, 1)) - values).max() < 1e-9


def test_isotonic_leaves_no_steps_and_weights_count_as_rows() -> None:
    score, labels = overconfident_scores(40_000, 5)
    plain = fit_calibrator(score, labels)
    inside = score[(logit(score) > plain.scores[0]) & (logit(score) < plain.scores[-1])]
    assert len(np.unique(plain(inside))) == len(np.unique(inside))
    steps = IsotonicRegression().fit(score, labels).predict(score)
    assert np.abs(plain(score) - steps).mean() < 0.01
    heavy = fit_calibrator(score, labels, np.full(len(score), 3.0))
    assert np.allclose(plain(score), heavy(score), atol=1e-3)


def test_calibrator_of_sampled_rows_holds_for_all_rows() -> None:
    """Most users rarely buy; of the non-buyers one in fifty is sampled with weight fifty."""
    rng = np.random.default_rng(4)
    truth = expit(
        np.where(rng.random(400_000) < 0.95, rng.normal(-9, 0.5, 400_000), rng.normal(-2, 1, 400_000))
    )
    labels = rng.random(len(truth)) < truth
    sampling = Sampling(1.0, 0.02)
    sampled = labels | (rng.random(len(truth)) < sampling.negative_rate)
    calibrator = fit_calibrator(truth[sampled], labels[sampled], sampling.weights(labels[sampled]))
    assert calibrator.method == "isotonic"
    unlikely = truth < 0.002
    assert calibrator(truth[unlikely]).mean() < 2 * truth[unlikely].mean()
    assert calibrator(truth).mean() == pytest.approx(truth.mean(), rel=0.05)


def test_buyer_with_the_lowest_score_does_not_raise_all_probabilities() -> None:
    """The lowest block is then a single row without a buyer, whose rate is very uncertain."""
    rng = np.random.default_rng(5)
    score = np.sort(expit(rng.normal(-3.5, 1.0, 40_000)))
    labels = rng.random(len(score)) < score
    labels[:3] = [False, True, False]
    calibrated = fit_calibrator(score, labels)(score)
    assert calibrated.mean() == pytest.approx(labels.mean(), rel=0.01)
    assert (
        evaluate(ScoredRows(pd.Series(np.arange(len(score)).astype(str)), labels, score, calibrated), 0.5)[
            "ece"
        ]
        < 0.005
    )


def test_reversed_score_keeps_its_order() -> None:
    score, labels = overconfident_scores(2_000, 8)
    calibrator = fit_calibrator(1 - score, labels)
    values = calibrator(np.array([0.1, 0.5, 0.9]))
    assert np.all(np.diff(values) > 0)


def test_calibration_error_by_hand() -> None:
    probability = np.repeat([0.1, 0.9], 50)
    labels = np.concatenate([np.arange(50) < 10, np.arange(50) < 45])
    assert sum(bin_["rows"] for bin_ in reliability(probability, labels)) == 100
    labels = np.tile(np.arange(10) < 2, 10)
    assert calibration_error(np.full(100, 0.1), labels) == pytest.approx(0.1)
