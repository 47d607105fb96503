"""Size of an audience: by budget, by certified recall, or by cost and value of a contact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pandera.typing.pandas import DataFrame

from retail_core.arrays import BoolArray, FloatArray
from retail_core.errors import InputError
from retail_core.model.served_model import ModelSpec
from retail_core.model.threshold_transfer import BuyerScores
from retail_core.model.thresholds import refuse_uncertifiable
from retail_core.schemas import Prediction

_NORMAL_QUANTILE = 1.96
"""Two-sided 95 % quantile of the standard normal distribution."""


@dataclass(frozen=True)
class Sizing:
    """Size of an audience: exactly one of `budget`, `recall`, `cost` with `value`, and `no_miss`.

    Attributes:
        budget: number of users, the most probable buyers.
        recall: share of buyers to find with the model's confidence; 1.0 is `no_miss`.
        cost: cost of contacting one user; with `value`: users whose probability exceeds cost / value.
        value: value of a purchase, in the currency of `cost`.
        no_miss: recall 1.0.
        control: share of the audience that is drawn at random and not contacted.

    Raises:
        InputError: none or several of them, or a number out of range.
    """

    budget: int | None = None
    recall: float | None = None
    cost: float | None = None
    value: float | None = None
    no_miss: bool = False
    control: float = 0.1

    def __post_init__(self) -> None:
        options = [self.budget is not None, self.recall is not None, self.cost is not None, self.no_miss]
        if sum(options) != 1 or (self.cost is None) != (self.value is None):
            raise InputError(
                "An audience has one size.",
                remedy="give one of --budget K, --recall R, --cost C with --value V, and --no-miss.",
            )
        if self.budget is not None and self.budget < 1:
            raise InputError(f"A budget of {self.budget} contacts nobody.", remedy="give at least 1.")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InputError(f"A recall of {self.recall:g} is out of range.", remedy="give one in (0, 1].")
        if self.cost is not None and self.value is not None and not 0 < self.cost < self.value:
            raise InputError(
                f"Cost {self.cost:g} and value {self.value:g} select nobody or everybody.",
                remedy="give a cost above 0 and below the value.",
            )
        if not 0 <= self.control < 1:
            raise InputError(f"A control group of {self.control:g} is out of range.", remedy="give 0 to 0.9.")

    @property
    def point(self) -> str:
        """Name of the operating point."""
        if self.no_miss or self.recall == 1:
            return "no-miss"
        return "budget" if self.budget is not None else "recall" if self.recall is not None else "cost"


def select_members(sizing: Sizing, predictions: DataFrame[Prediction], spec: ModelSpec) -> BoolArray:
    """Which of the eligible users belong to an audience of this size, control group included.

    Returns:
        A mask of shape (len(predictions),).

    Raises:
        DataError: the recall cannot be certified for the primary policy; names the nearest that can.
    """
    probability = predictions["probability"].to_numpy(np.float64)
    if sizing.budget is not None:
        return np.asarray(predictions["rank"] <= sizing.budget, dtype=np.bool_)
    if sizing.cost is not None and sizing.value is not None:
        return probability > sizing.cost / sizing.value
    if sizing.recall is not None and sizing.recall < 1:
        thresholds = certified_thresholds(spec, sizing.recall)
    else:
        thresholds = {policy: spec.thresholds[policy]["no-miss"] for policy in spec.policies}
    return probability >= predictions["policy"].map(thresholds).to_numpy(np.float64)


def certified_thresholds(spec: ModelSpec, recall: float) -> dict[str, float]:
    """By policy, the threshold that finds that share of buyers with the model's confidence.

    Raises:
        DataError: it cannot be certified for the primary policy; names the nearest that can.
    """
    confidence = float(spec.training.get("goal", {}).get("confidence", 0.95))
    buyers = {policy: BuyerScores.from_dict(spec.certification.get(policy, {})) for policy in spec.policies}
    refuse_uncertifiable(len(buyers[spec.primary].held_out), recall, confidence, ("--recall", "--no-miss"))
    return {policy: scores.threshold(recall, confidence) for policy, scores in buyers.items()}


def expected_buyers(probability: FloatArray) -> tuple[float, float, float]:
    """Expected number of buyers, and the bounds of its 95 % interval.

    The interval takes the probabilities as exact: independent draws, normal approximation.
    """
    mean = float(probability.sum())
    half_width = _NORMAL_QUANTILE * math.sqrt(float((probability * (1 - probability)).sum()))
    return mean, max(0.0, mean - half_width), min(float(len(probability)), mean + half_width)
