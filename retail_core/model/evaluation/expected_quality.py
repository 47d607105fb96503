"""Estimated performance of a list before its outcomes are known, from calibrated probabilities alone.

CBPE, confidence-based performance estimation: NannyML documentation, "How it works: performance estimation";
Garg et al., "Leveraging unlabeled data to predict out-of-distribution performance", ICLR 2022. The estimates
hold as far as the probabilities are calibrated, and say nothing about a change that the features do not show.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import poisson

from retail_core.arrays import BoolArray, FloatArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class ExpectedQuality:
    """What a list is expected to reach once its horizon has passed.

    Attributes:
        n: number of rows.
        expected_buyers: sum of the probabilities.
        expected_buyers_low: lower bound of the 95 % interval of the number of buyers.
        expected_buyers_high: its upper bound.
        expected_precision: share of buyers among the rows with `will_purchase`; None without such rows.
        expected_recall: share of the buyers that have `will_purchase`; None where no buyer is expected.
        expected_f1: harmonic mean of both; None where no buyer is expected.
        expected_ap: average precision of the order by probability; None where no buyer is expected.
    """

    n: int
    expected_buyers: float
    expected_buyers_low: int
    expected_buyers_high: int
    expected_precision: float | None
    expected_recall: float | None
    expected_f1: float | None
    expected_ap: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """The fields as a dictionary."""
        return asdict(self)


def estimate_quality(probability: FloatArray, will_purchase: BoolArray) -> ExpectedQuality:
    """Expected quality of rows whose outcomes are independent with these probabilities.

    Expected counts replace the counts of the confusion matrix: a row with `will_purchase` and probability p
    is p true positives. Expected average precision is sum_i p_i (1 + sum_{j<i} p_j) / i over the expected
    buyers, with rows in descending order of p. The interval is that of a Poisson variable, which is slightly
    wider than that of a sum of independent outcomes; it allows for chance, not for wrong probabilities.

    Args:
        probability: calibrated probabilities, shape (rows,).
        will_purchase: whether each row is expected to buy.
    """
    buyers = float(probability.sum())
    low, high = poisson.interval(CONFIDENCE, buyers) if buyers else (0, 0)
    hits, selected = float(probability[will_purchase].sum()), int(will_purchase.sum())
    return ExpectedQuality(
        n=len(probability),
        expected_buyers=buyers,
        expected_buyers_low=int(low),
        expected_buyers_high=int(high),
        expected_precision=hits / selected if selected else None,
        expected_recall=hits / buyers if buyers else None,
        expected_f1=2 * hits / (selected + buyers) if buyers else None,
        expected_ap=_expected_average_precision(probability) if buyers else None,
    )


def _expected_average_precision(probability: FloatArray) -> float:
    ordered = -np.sort(-probability)
    buyers_before = np.cumsum(ordered) - ordered
    ranks = np.arange(1, len(ordered) + 1)
    return float((ordered * (1 + buyers_before) / ranks).sum() / ordered.sum())
