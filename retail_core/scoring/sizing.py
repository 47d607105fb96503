"""How large an audience is: by budget, by recall, or by cost and value."""

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

_SURE = 1.96


@dataclass(frozen=True)
class Sizing:
    """How large the audience is; exactly one of `budget`, `recall`, `cost` with `value`, and `no_miss`.

    Attributes:
        budget: the so many most probable users.
        recall: a share of buyers to find with the model's confidence; 1.0 is `no_miss`.
        cost: of contacting one user; with `value`, what a purchase is worth: whoever's probability
            exceeds cost / value.
        value: see `cost`; the same currency.
        no_miss: recall 1.0.
        control: share of the audience that is drawn at random and not contacted.

    Raises:
        InputError: none or several of them, or a number that makes no sense.
    """

    budget: int | None = None
    recall: float | None = None
    cost: float | None = None
    value: float | None = None
    no_miss: bool = False
    control: float = 0.1

    def __post_init__(self) -> None:
        given = [self.budget is not None, self.recall is not None, self.cost is not None, self.no_miss]
        if sum(given) != 1 or (self.cost is None) != (self.value is None):
            raise InputError(
                "An audience has one size.",
                remedy="give one of --budget K, --recall R, --cost C with --value V, and --no-miss.",
            )
        if self.budget is not None and self.budget < 1:
            raise InputError(f"A budget of {self.budget} contacts nobody.", remedy="give at least 1.")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise InputError(f"A recall of {self.recall:g} is no share.", remedy="give one in (0, 1].")
        if self.cost is not None and self.value is not None and not 0 < self.cost < self.value:
            raise InputError(
                f"With a cost of {self.cost:g} and a value of {self.value:g} it is nobody or everybody.",
                remedy="give a cost above 0 and below the value.",
            )
        if not 0 <= self.control < 1:
            raise InputError(f"A control group of {self.control:g} is no share.", remedy="give 0 to 0.9.")

    @property
    def point(self) -> str:
        """The operating point's name."""
        if self.no_miss or self.recall == 1:
            return "no-miss"
        return "budget" if self.budget is not None else "recall" if self.recall is not None else "cost"


def chosen_by(sizing: Sizing, everybody: DataFrame[Prediction], spec: ModelSpec) -> BoolArray:
    """Which of all eligible users the size takes in, control group included.

    Raises:
        DataError: the recall cannot be certified for the primary policy; names the nearest that can.
    """
    probability = everybody["probability"].to_numpy(np.float64)
    if sizing.budget is not None:
        return np.asarray(everybody["rank"] <= sizing.budget, dtype=np.bool_)
    if sizing.cost is not None and sizing.value is not None:
        return probability > sizing.cost / sizing.value
    if sizing.recall is not None and sizing.recall < 1:
        limits = certified_thresholds(spec, sizing.recall)
    else:
        limits = {policy: spec.thresholds[policy]["no-miss"] for policy in spec.policies}
    return probability >= everybody["policy"].map(limits).to_numpy(np.float64)


def certified_thresholds(spec: ModelSpec, recall: float) -> dict[str, float]:
    """By policy the threshold that finds that share of buyers with the model's confidence.

    Raises:
        DataError: it cannot be certified for the primary policy; names the nearest that can.
    """
    confidence = float(spec.training.get("goal", {}).get("confidence", 0.95))
    buyers = {policy: BuyerScores.from_dict(spec.certification.get(policy, {})) for policy in spec.policies}
    refuse_uncertifiable(len(buyers[spec.primary].held_out), recall, confidence, ("--recall", "--no-miss"))
    return {policy: one.threshold(recall, confidence) for policy, one in buyers.items()}


def expected(probability: FloatArray) -> tuple[float, float, float]:
    """Expected number of buyers, and a 95 % interval of the number that buys."""
    mean = float(probability.sum())
    half = _SURE * math.sqrt(float((probability * (1 - probability)).sum()))
    return mean, max(0.0, mean - half), min(float(len(probability)), mean + half)
