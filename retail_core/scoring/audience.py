"""Whom to contact at one cut-off: scored once, sized as often as one likes, drawn with a control group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.arrays import BoolArray
from retail_core.csv_export import require_parent_folder, write_csv
from retail_core.errors import DataError
from retail_core.features.cutoffs.policies import policy_population
from retail_core.model.sampling import row_hash_fraction
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.registry.versions import load_champion
from retail_core.schemas import Prediction
from retail_core.scoring.reason_columns import MOST_EXPLAINED, from_lake, with_reasons
from retail_core.scoring.scores import predict_eligible
from retail_core.scoring.sizing import Sizing, chosen_by, expected
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.predictions import replace_audience
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import Workspace

__all__ = [
    "Audience",
    "Draw",
    "Figures",
    "Scores",
    "Sizing",
    "choose_audience",
    "drawn",
    "keep",
    "refuse_erased",
    "score_all",
]

_ASKED_AT_ONCE = 5_000
CSV_COLUMNS = ("user_id", "probability", "rank", "as_of", "policy", "model_version")


@dataclass(frozen=True)
class Scores:
    """Every eligible user's prediction by the production model, in order of rank."""

    served: ServedModel
    as_of: datetime
    everybody: DataFrame[Prediction]


@dataclass(frozen=True)
class Figures:
    """What may be expected of an audience.

    `threshold` is the lowest probability of the audience. `expected_buyers` is the sum of its
    probabilities, control group included, with a 95 % interval that takes them at their word (independent
    draws, normal approximation); `expected_recall` the share of all eligible users' expected buyers;
    `expected_buyers_contacted` leaves the control group out. `mean_probability` is that of all `eligible`
    users (`population` says who they are), `base_rate` the share that bought among the rows the model was
    tested on.
    """

    contacted: int
    control: int
    expected_buyers: float
    expected_buyers_interval: tuple[float, float]
    expected_buyers_contacted: float
    expected_recall: float
    threshold: float
    point: str
    eligible: int
    population: str
    mean_probability: float
    base_rate: float


@dataclass(frozen=True)
class Audience(Figures):
    """What came of it; `file` has the users to contact."""

    as_of: datetime
    model_version: str
    audience_id: str
    file: Path


@dataclass(frozen=True)
class Draw:
    """Users of an audience, by rank, and which of them are held out as the control group."""

    chosen: pd.DataFrame
    control: BoolArray
    figures: Figures

    @property
    def contacted(self) -> pd.DataFrame:
        """Whom to contact."""
        return self.chosen[~self.control]


def choose_audience(
    work: Workspace, *, as_of: datetime, sizing: Sizing, out: Path, reasons: int = MOST_EXPLAINED
) -> Audience:
    """Score every eligible user at `as_of` (aware), choose, draw the control group, store and write.

    The file has the users to contact and nobody else, by rank, and says of the first `reasons` why; the
    control group is in `audiences`. The same question of the same model gives the same audience and the
    same control group again.

    Raises:
        DataError: there is no champion, nobody is eligible or worth it, or the recall cannot be certified.
        InputError: `out` cannot be written.
    """
    require_parent_folder(out)
    return keep(work, score_all(work, as_of), sizing, out, reasons)


def score_all(work: Workspace, as_of: datetime) -> Scores:
    """Everybody's scores, which any number of audiences can be drawn from.

    Raises:
        DataError: there is no champion, or nobody is eligible.
    """
    instant = to_utc_ms(as_of)
    served = load_champion(work.settings)
    return Scores(served, instant, predict_eligible(work.lake.snapshot(), served, instant, work.engine))


def drawn(scores: Scores, sizing: Sizing, seed: int) -> Draw:
    """The audience of that size and its control group; nothing is stored.

    Raises:
        DataError: nobody is worth it, or the recall cannot be certified.
    """
    everybody, spec = scores.everybody, scores.served.spec
    chosen = everybody[chosen_by(sizing, everybody, spec)]
    if chosen.empty:
        raise DataError(
            f"None of {len(everybody):,} eligible users has a probability that is worth the contact.",
            remedy="lower the cost or raise the value; `retail score` shows the probabilities.",
        )
    control = held_out(chosen, sizing.control, seed)
    probability = chosen["probability"].to_numpy(np.float64)
    buyers, low, high = expected(probability)
    in_all = float(everybody["probability"].sum())
    figures = Figures(
        contacted=int((~control).sum()),
        control=int(control.sum()),
        expected_buyers=buyers,
        expected_buyers_interval=(low, high),
        expected_buyers_contacted=float(probability[~control].sum()),
        expected_recall=buyers / in_all,
        threshold=float(chosen["probability"].min()),
        point=sizing.point,
        eligible=len(everybody),
        population=policy_population(spec.feature_set.task, spec.primary, iso(scores.as_of)),
        mean_probability=in_all / len(everybody),
        base_rate=spec.base_rate,
    )
    return Draw(chosen, control, figures)


def keep(
    work: Workspace, scores: Scores, sizing: Sizing, out: Path, reasons: int = MOST_EXPLAINED
) -> Audience:
    """Draw the audience, store it and write whom to contact to `out`.

    Raises:
        DataError: as `drawn`.
        InputError: `out` cannot be written.
    """
    seed, served = work.settings.seed, scores.served
    draw = drawn(scores, sizing, seed)
    result = Audience(
        **asdict(draw.figures),
        as_of=scores.as_of,
        model_version=served.spec.version,
        audience_id=_name(served.spec, scores.as_of, sizing, seed),
        file=out,
    )
    replace_audience(work.store, _header(result, sizing, seed), _members(draw.chosen, draw.control))
    features_of = from_lake(work.lake.snapshot(), served, work.engine)
    write_csv(with_reasons(served, draw.contacted[list(CSV_COLUMNS)], features_of, reasons), out)
    return result


def refuse_erased(store: Store, users: Sequence[str]) -> None:
    """Refuse users of scores that were kept for a while, when one of them was erased meanwhile.

    Raises:
        DataError: says how many.
    """
    parts = (users[start : start + _ASKED_AT_ONCE] for start in range(0, len(users), _ASKED_AT_ONCE))
    known = sum(len(store.events.distinct("user_id", {"user_id": {"$in": part}})) for part in parts)
    if known < len(users):
        raise DataError(
            f"{len(users) - known:,} users of this list have been erased since they were scored.",
            remedy="score all users again.",
        )


def held_out(chosen: pd.DataFrame, share: float, seed: int) -> BoolArray:
    """Which of `chosen` (`user_id`, `as_of`) are the control group: a random share, rounded."""
    draws = row_hash_fraction(chosen, seed + 1)
    held = np.zeros(len(chosen), bool)
    held[np.argsort(draws, kind="stable")[: round(share * len(chosen))]] = True
    return held


def _name(spec: ModelSpec, as_of: datetime, sizing: Sizing, seed: int) -> str:
    size = {"budget": sizing.budget, "recall": sizing.recall, "no-miss": 1}
    told = size.get(sizing.point) or f"{sizing.cost:g}/{sizing.value:g}"
    return f"{iso(as_of)}:{spec.version}:{sizing.point}={told}:control={sizing.control:g}:seed={seed}"


def _header(result: Audience, sizing: Sizing, seed: int) -> Document:
    kept = {name: value for name, value in asdict(result).items() if name not in {"file", "audience_id"}}
    kept["expected_buyers_interval"] = list(result.expected_buyers_interval)
    return {"_id": result.audience_id, **kept, "sizing": asdict(sizing), "seed": seed}


def _members(chosen: pd.DataFrame, control: BoolArray) -> Iterator[Document]:
    columns = (chosen["user_id"], chosen["probability"], chosen["rank"], control)
    for user, probability, rank, held in zip(*(list(one) for one in columns), strict=True):
        group = "control" if held else "contact"
        yield {"user_id": user, "probability": float(probability), "rank": int(rank), "group": group}
