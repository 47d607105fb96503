"""Metrics of matured predictions: pure functions over labels and scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix of matured predictions; positive: expected to buy."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @classmethod
    def of(cls, purchased: NDArray[np.bool_], expected: NDArray[np.bool_]) -> Confusion:
        """Confusion matrix of two boolean arrays of equal length."""
        return cls(
            int((purchased & expected).sum()),
            int((~purchased & expected).sum()),
            int((purchased & ~expected).sum()),
            int((~purchased & ~expected).sum()),
        )

    @property
    def buyers(self) -> int:
        """Number of predictions whose user bought."""
        return self.true_positives + self.false_negatives

    @property
    def rows(self) -> int:
        """Number of predictions."""
        return self.buyers + self.false_positives + self.true_negatives

    @property
    def base_rate(self) -> float:
        """Share that bought; 0 where there is no row."""
        return _ratio(self.buyers, self.rows)

    @property
    def recall(self) -> float:
        """Share of the buyers that were expected to buy; 0 where there is no buyer."""
        return _ratio(self.true_positives, self.buyers)

    @property
    def precision(self) -> float:
        """Share of those expected to buy that bought; 0 where nobody was expected to."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are."""
        return _ratio(2 * self.true_positives, self.buyers + self.true_positives + self.false_positives)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


@dataclass(frozen=True)
class LiveMetrics:
    """Metrics of `n` matured predictions, `buyers` of which bought.

    F1, precision and recall are at the best-F1 threshold of the model version that made the prediction
    (`will_purchase`). `ap` and `auc` are None if nobody or everybody bought.
    """

    n: int
    buyers: int
    base_rate: float
    ap: float | None
    auc: float | None
    f1: float
    precision: float
    recall: float
    brier: float

    def to_dict(self) -> dict[str, object]:
        """The fields as a dictionary."""
        return asdict(self)


def live_metrics(outcomes: pd.DataFrame) -> LiveMetrics:
    """Metrics of at least one matured prediction.

    Args:
        outcomes: columns probability, will_purchase, purchased.
    """
    purchased = outcomes["purchased"].to_numpy(dtype=bool)
    probability = outcomes["probability"].to_numpy(dtype=float)
    confusion = Confusion.of(purchased, outcomes["will_purchase"].to_numpy(dtype=bool))
    both_classes = 0 < confusion.buyers < confusion.rows
    return LiveMetrics(
        n=confusion.rows,
        buyers=confusion.buyers,
        base_rate=confusion.base_rate,
        ap=float(average_precision_score(purchased, probability)) if both_classes else None,
        auc=float(roc_auc_score(purchased, probability)) if both_classes else None,
        f1=confusion.f1,
        precision=confusion.precision,
        recall=confusion.recall,
        brier=float(np.mean((probability - purchased) ** 2)),
    )
