"""Whom to contact at one cut-off: sized by budget, recall, or cost and value; a control group is held out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.csv_out import write_csv
from retail_core.errors import DataError, InputError
from retail_core.lifecycle.reasoned import MOST_EXPLAINED, from_lake, with_reasons
from retail_core.lifecycle.scoring import predict_eligible
from retail_core.model.carry import Buyers
from retail_core.model.runtime import ModelSpec, load_champion
from retail_core.model.sampling import Floats, row_draws
from retail_core.model.splits import Mask
from retail_core.model.thresholds import refuse_uncertifiable
from retail_core.schemas import Prediction
from retail_core.settings import Settings
from retail_core.store.audiences import replace_audience
from retail_core.store.lake import Lake, sync
from retail_core.store.mongo import Document, Store
from retail_core.times import iso, to_utc_ms

CSV_COLUMNS = ("user_id", "probability", "rank", "as_of", "policy", "model_version")
_SURE = 1.96


@dataclass(frozen=True)
class Sizing:
    """How large the audience is; exactly one of `budget`, `recall`, `cost` with `value`, and `no_miss`.

    Attributes:
        budget: the so many most probable users.
        recall: a share of buyers to find, below 1, with the model's confidence.
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
        if self.recall is not None and not 0 < self.recall < 1:
            raise InputError(
                f"A recall of {self.recall:g} cannot be certified.",
                remedy="give one between 0 and 1, or --no-miss for 1.0.",
            )
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
        if self.no_miss:
            return "no-miss"
        return "budget" if self.budget is not None else "recall" if self.recall is not None else "cost"


@dataclass(frozen=True)
class Audience:
    """What came of it.

    `threshold` is the lowest probability of the audience. `expected_buyers` is the sum of its
    probabilities, control group included, with a 95 % interval that takes them at their word (independent
    draws, normal approximation); `expected_recall` the share of all eligible users' expected buyers.
    """

    contacted: int
    control: int
    expected_buyers: float
    expected_buyers_interval: tuple[float, float]
    expected_recall: float
    threshold: float
    point: str
    eligible: int
    base_rate: float
    as_of: datetime
    model_version: str
    audience_id: str
    file: Path


def choose_audience(  # noqa: PLR0913 - the call every edge makes
    store: Store,
    lake: Lake,
    settings: Settings,
    *,
    as_of: datetime,
    sizing: Sizing,
    out: Path,
    reasons: int = MOST_EXPLAINED,
) -> Audience:
    """Score every eligible user at `as_of` (aware), choose, draw the control group, store and write.

    The file has the users to contact and nobody else, by rank, and says of the first `reasons` why; the
    control group is in `audiences`. The same question of the same model gives the same audience and the
    same control group again.

    Raises:
        DataError: there is no champion, nobody is eligible or worth it, or the recall cannot be certified.
        InputError: `out` cannot be written.
    """
    instant = to_utc_ms(as_of)
    sync(store)
    served = load_champion(settings)
    everybody = predict_eligible(lake, settings, served, instant)
    chosen = everybody[_chosen(everybody, served.spec, sizing)]
    if chosen.empty:
        raise DataError(
            f"None of {len(everybody):,} eligible users has a probability that is worth the contact.",
            remedy="lower the cost or raise the value; `retail score` shows the probabilities.",
        )
    control = held_out(chosen, sizing.control, settings.seed)
    name = _name(served.spec, instant, sizing, settings.seed)
    found = _summary(everybody, chosen, control, name)
    result = Audience(**found, point=sizing.point, as_of=instant, model_version=served.spec.version, file=out)
    replace_audience(store, _header(result, sizing, settings.seed), _members(chosen, control))
    contacted = chosen[~control][list(CSV_COLUMNS)]
    write_csv(with_reasons(served, contacted, from_lake(lake, settings, served), reasons), out)
    return result


def held_out(chosen: pd.DataFrame, share: float, seed: int) -> Mask:
    """Which of `chosen` (`user_id`, `as_of`) are the control group: a random share, rounded."""
    draws = row_draws(chosen, seed + 1)
    held = np.zeros(len(chosen), bool)
    held[np.argsort(draws, kind="stable")[: round(share * len(chosen))]] = True
    return held


def expected(probability: Floats) -> tuple[float, float, float]:
    """Expected number of buyers, and a 95 % interval of the number that buys."""
    mean = float(probability.sum())
    half = _SURE * math.sqrt(float((probability * (1 - probability)).sum()))
    return mean, max(0.0, mean - half), min(float(len(probability)), mean + half)


def _chosen(everybody: DataFrame[Prediction], spec: ModelSpec, sizing: Sizing) -> Mask:
    probability = everybody["probability"].to_numpy(np.float64)
    if sizing.budget is not None:
        return np.asarray(everybody["rank"] <= sizing.budget, dtype=np.bool_)
    if sizing.cost is not None and sizing.value is not None:
        return probability > sizing.cost / sizing.value
    if sizing.recall is not None:
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
    buyers = {policy: Buyers.from_dict(spec.certification.get(policy, {})) for policy in spec.policies}
    refuse_uncertifiable(len(buyers[spec.primary].held_out), recall, confidence)
    return {policy: one.threshold(recall, confidence) for policy, one in buyers.items()}


def _summary(
    everybody: pd.DataFrame, chosen: pd.DataFrame, control: Mask, audience_id: str
) -> dict[str, Any]:
    buyers, low, high = expected(chosen["probability"].to_numpy(np.float64))
    in_all = float(everybody["probability"].sum())
    return {
        "contacted": int((~control).sum()),
        "control": int(control.sum()),
        "expected_buyers": buyers,
        "expected_buyers_interval": (low, high),
        "expected_recall": buyers / in_all,
        "threshold": float(chosen["probability"].min()),
        "eligible": len(everybody),
        "base_rate": in_all / len(everybody),
        "audience_id": audience_id,
    }


def _name(spec: ModelSpec, as_of: datetime, sizing: Sizing, seed: int) -> str:
    size = {"budget": sizing.budget, "recall": sizing.recall, "no-miss": 1}
    told = size.get(sizing.point) or f"{sizing.cost:g}/{sizing.value:g}"
    return f"{iso(as_of)}:{spec.version}:{sizing.point}={told}:control={sizing.control:g}:seed={seed}"


def _header(result: Audience, sizing: Sizing, seed: int) -> Document:
    kept = {name: value for name, value in asdict(result).items() if name not in {"file", "audience_id"}}
    kept["expected_buyers_interval"] = list(result.expected_buyers_interval)
    return {"_id": result.audience_id, **kept, "sizing": asdict(sizing), "seed": seed}


def _members(chosen: pd.DataFrame, control: Mask) -> Iterator[Document]:
    columns = (chosen["user_id"], chosen["probability"], chosen["rank"], control)
    for user, probability, rank, held in zip(*(list(one) for one in columns), strict=True):
        group = "control" if held else "contact"
        yield {"user_id": user, "probability": float(probability), "rank": int(rank), "group": group}
