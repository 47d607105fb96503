"""Thresholds that turn probabilities into decisions: best F1, and certified recall.

The certificate is exact. With the scores of n independent buyers in ascending order, the threshold at
the (m+1)-th finds at least a share r of all buyers with confidence 1 - delta if and only if the
one-sided Clopper-Pearson lower bound of n - m found out of n is at least r. Thresholds are tested upwards
and the last that passes before the first failure is taken (fixed-sequence testing needs no correction for
multiplicity; with order statistics the bound is that of the tolerance limit).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from retail_core.arrays import BoolArray, FloatArray, IndexArray
from retail_core.errors import DataError

DEFAULT_TARGET = 0.95


@dataclass(frozen=True)
class Certificate:
    """With `confidence`, at least `lower_bound` of all buyers have a probability of `threshold` or more.

    Attributes:
        target: requested recall.
        confidence: 1 - delta.
        lower_bound: certified recall.
        threshold: probability.
        buyers: distinct buyers in the certify period.
        missed: those of them below the threshold.
    """

    target: float
    confidence: float
    lower_bound: float
    threshold: float
    buyers: int
    missed: int

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RecallThreshold:
    """A threshold for a recall target; without a `certificate` it is the empirical one, for that `reason`."""

    threshold: float
    certificate: Certificate | None
    reason: str | None


def best_f1_threshold(probability: FloatArray, labels: BoolArray) -> float:
    """The probability p at which "p or more" has the highest F1 on these rows (the largest such p)."""
    order = np.argsort(-probability, kind="stable")
    ranked, hits = probability[order], np.cumsum(labels[order])
    is_tie_end = np.append(ranked[1:] != ranked[:-1], True)
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + labels.sum())
    f1[~is_tie_end] = -1.0
    return float(ranked[int(np.argmax(f1))])


def sample_row_per_buyer(users: pd.Series, labels: BoolArray, seed: int) -> IndexArray:
    """Positions of one random buying row per buying user, which are independent observations."""
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(labels))
    first = ~users.iloc[shuffled].duplicated().to_numpy()
    return np.asarray(shuffled[first], dtype=np.intp)


def recall_threshold(scores: FloatArray, target: float, confidence: float) -> RecallThreshold:
    """The largest threshold certified to find the share `target` of buyers.

    Args:
        scores: probabilities of independent buyers (`sample_row_per_buyer`), at least one.
        target: share of buyers to find, in (0, 1]. 1.0 is the `no-miss` point: the lowest score of any
            buyer, whose certificate states the recall that is certified there.
        confidence: 1 - delta, in (0, 1).
    """
    ranked = np.sort(scores)
    buyers = len(ranked)
    if target >= 1.0:
        return RecallThreshold(float(ranked[0]), _certificate(ranked, 0, 1.0, confidence), None)
    missed = -1
    while missed + 1 < buyers and recall_bound(buyers - missed - 1, buyers, confidence) >= target:
        missed += 1
    if missed < 0:
        naive = float(ranked[min(buyers - 1, math.floor(buyers * (1 - target) + 1e-9))])
        return RecallThreshold(naive, None, _no_certificate_reason(buyers, target, confidence))
    return RecallThreshold(float(ranked[missed]), _certificate(ranked, missed, target, confidence), None)


def recall_bound(hits: int, buyers: int, confidence: float) -> float:
    """One-sided Clopper-Pearson lower bound of the recall, where `hits` of `buyers` were found."""
    from scipy.stats import beta

    if hits == 0:
        return 0.0
    return float(beta.ppf(1 - confidence, hits, buyers - hits + 1))


def required_buyers(target: float, confidence: float) -> int:
    """Fewest buyers that certify `target` if none is missed: 59 for 0.95 at 95 % confidence."""
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)


def highest_certifiable_recall(buyers: int, confidence: float) -> float:
    """Highest recall that `buyers` can certify if none is missed, rounded down to 0.001."""
    return math.floor(1000 * (1 - confidence) ** (1 / buyers) + 1e-6) / 1000 if buyers else 0.0


TRAIN_OPTION_NAMES = ("--target-recall", "--target-recall 1.0")
"""Command-line options for a recall and for recall 1.0, named by `refuse_uncertifiable`."""


def refuse_uncertifiable(
    buyers: int, target: float, confidence: float, options: tuple[str, str] = TRAIN_OPTION_NAMES
) -> None:
    """Refuse a requested recall that `buyers` cannot certify; 1.0 is never refused.

    Raises:
        DataError: names the highest recall that can be certified.
    """
    if target >= 1.0 or buyers >= required_buyers(target, confidence):
        return
    nearest = highest_certifiable_recall(buyers, confidence)
    alternative = f"ask for {options[0]} {nearest:g} or less, " if nearest > 0 else ""
    raise DataError(
        f"Recall {target:g} at {confidence:.0%} cannot be certified: that needs at least "
        f"{required_buyers(target, confidence)} buyers in the certification rows, and there are {buyers}.",
        remedy=f"{alternative}ingest a longer log, or use {options[1]} (contact everybody who might buy).",
    )


def _certificate(ranked: FloatArray, missed: int, target: float, confidence: float) -> Certificate:
    threshold = float(ranked[missed])
    below = int((ranked < threshold).sum())
    bound = recall_bound(len(ranked) - below, len(ranked), confidence)
    return Certificate(target, confidence, bound, threshold, len(ranked), below)


def _no_certificate_reason(buyers: int, target: float, confidence: float) -> str:
    return (
        f"recall {target:g} at {confidence:.0%} needs at least {required_buyers(target, confidence)} buyers "
        f"in the certification rows; there are {buyers}: certificate left out"
    )
