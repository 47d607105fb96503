"""Audiences: the users to contact at one cut-off, chosen from one set of scores, with a random control group.

Scoring is separate from drawing, so that several sizes can be tried on the same scores.
"""

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
from retail_core.features.cutoffs.policies import describe_population
from retail_core.model.sampling import row_hash_fraction
from retail_core.model.served_model import ModelSpec, ServedModel
from retail_core.schemas import Prediction
from retail_core.scoring.audience_sizing import Sizing, expected_buyers, select_members
from retail_core.scoring.list_checks import check_list
from retail_core.scoring.list_predictions import predict_eligible
from retail_core.scoring.reason_columns import MOST_EXPLAINED, features_from_lake, with_reasons
from retail_core.scoring.scores import load_scoring_model
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.predictions import replace_audience
from retail_core.times import iso, to_utc_ms
from retail_core.workspace import Workspace

_QUERY_USERS = 5_000
"""User ids in one query to MongoDB."""

CSV_COLUMNS = ("user_id", "probability", "rank", "as_of", "policy", "model_version")


@dataclass(frozen=True)
class ScoredUsers:
    """Predictions of every eligible user by the production model, in order of rank.

    `statement` says in words when the predicted purchases would happen and where the data ends; `warnings`
    what is wrong with the log or the list, see `list_checks`.
    """

    served: ServedModel
    as_of: datetime
    predictions: DataFrame[Prediction]
    statement: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AudienceEstimate:
    """Size of an audience and the number of buyers expected in it.

    Attributes:
        contacted: number of users to contact.
        control: number of users in the control group.
        expected_buyers: sum of the probabilities, control group included.
        expected_buyers_interval: 95 % interval of the number of buyers, which takes the probabilities as
            exact (independent draws, normal approximation).
        expected_buyers_contacted: sum of the probabilities of the users to contact.
        expected_recall: `expected_buyers` as a share of the expected buyers among all eligible users.
        threshold: lowest probability in the audience.
        point: name of the operating point.
        eligible: number of eligible users.
        population: description of the eligible users.
        mean_probability: mean over all eligible users.
        base_rate: share of buyers among the model's test rows.
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
class Audience(AudienceEstimate):
    """A stored audience; `file` is the CSV of the users to contact, the rest is that of `ScoredUsers`."""

    as_of: datetime
    model_version: str
    audience_id: str
    file: Path
    statement: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class AudienceDraw:
    """The members of an audience by rank, and a mask of those that are its control group."""

    members: pd.DataFrame
    in_control_group: BoolArray
    estimate: AudienceEstimate

    @property
    def contacted(self) -> pd.DataFrame:
        """The members to contact."""
        return self.members[~self.in_control_group]


def choose_audience(
    workspace: Workspace,
    *,
    as_of: datetime,
    sizing: Sizing,
    out: Path,
    reasons: int = MOST_EXPLAINED,
    now: datetime | None = None,
) -> Audience:
    """Score every eligible user, choose an audience, draw its control group, store it and write the CSV.

    The same sizing, cut-off and model give the same audience and the same control group again.

    Args:
        workspace: the workspace.
        as_of: the cut-off, aware.
        sizing: size of the audience and of its control group.
        out: CSV of the users to contact, by rank; the control group is only in the collection `audiences`.
        reasons: number of users at the top of the CSV with a text in the column `reasons`.
        now: instant that the log should reach, aware; None: `as_of`.

    Raises:
        DataError: no model is in production, no user is eligible or worth the cost, the recall cannot be
            certified, or the list is refused (`check_list`).
        InputError: `out` cannot be written.
    """
    require_parent_folder(out)
    return store_audience(workspace, score_eligible_users(workspace, as_of, now), sizing, out, reasons)


def score_eligible_users(workspace: Workspace, as_of: datetime, now: datetime | None = None) -> ScoredUsers:
    """Predictions of every eligible user, from which any number of audiences can be drawn.

    Args:
        workspace: the workspace.
        as_of: the cut-off, aware.
        now: instant that the log should reach, aware; None: `as_of`.

    Raises:
        DataError: no model is in production, no user is eligible, or the list is refused (`check_list`).
        InputError: the settings ask for another prediction task than the model's.
    """
    instant = to_utc_ms(as_of)
    served = load_scoring_model(workspace)
    predictions = predict_eligible(workspace.lake.snapshot(), served, instant, workspace.engine)
    spec = served.spec
    statement = workspace.describe_window(instant, spec.feature_set.task, spec.primary)
    warnings = check_list(workspace, spec, instant, float(predictions["probability"].sum()), now)
    return ScoredUsers(served, instant, predictions, statement, warnings)


def draw_audience(scored: ScoredUsers, sizing: Sizing, seed: int) -> AudienceDraw:
    """An audience of that size and its control group; nothing is stored.

    Raises:
        DataError: no user is worth the cost, or the recall cannot be certified.
    """
    predictions, spec = scored.predictions, scored.served.spec
    members = predictions[select_members(sizing, predictions, spec)]
    if members.empty:
        raise DataError(
            f"None of {len(predictions):,} eligible users has a probability that is worth the contact.",
            remedy="lower the cost or raise the value; `retail score` shows the probabilities.",
        )
    control = draw_control_group(members, sizing.control, seed)
    probability = members["probability"].to_numpy(np.float64)
    buyers, low, high = expected_buyers(probability)
    buyers_of_all = float(predictions["probability"].sum())
    estimate = AudienceEstimate(
        contacted=int((~control).sum()),
        control=int(control.sum()),
        expected_buyers=buyers,
        expected_buyers_interval=(low, high),
        expected_buyers_contacted=float(probability[~control].sum()),
        expected_recall=buyers / buyers_of_all,
        threshold=float(members["probability"].min()),
        point=sizing.point,
        eligible=len(predictions),
        population=describe_population(spec.feature_set.task, spec.primary, iso(scored.as_of)),
        mean_probability=buyers_of_all / len(predictions),
        base_rate=spec.base_rate,
    )
    return AudienceDraw(members, control, estimate)


def store_audience(
    workspace: Workspace, scored: ScoredUsers, sizing: Sizing, out: Path, reasons: int = MOST_EXPLAINED
) -> Audience:
    """Draw the audience, store it and write the users to contact to `out`.

    Raises:
        DataError: as `draw_audience`.
        InputError: `out` cannot be written.
    """
    seed, served = workspace.settings.seed, scored.served
    draw = draw_audience(scored, sizing, seed)
    audience = Audience(
        **asdict(draw.estimate),
        as_of=scored.as_of,
        model_version=served.spec.version,
        audience_id=_audience_id(served.spec, scored.as_of, sizing, seed),
        file=out,
        statement=scored.statement,
        warnings=scored.warnings,
    )
    replace_audience(workspace.store, _header(audience, sizing, seed), _member_documents(draw))
    features_of = features_from_lake(workspace.lake.snapshot(), served, workspace.engine)
    write_csv(with_reasons(served, draw.contacted[list(CSV_COLUMNS)], features_of, reasons), out)
    return audience


def refuse_erased_users(store: Store, users: Sequence[str]) -> None:
    """Refuse an audience from earlier scores if any of its users has been erased since.

    Raises:
        DataError: some have; states their number.
    """
    batches = (users[start : start + _QUERY_USERS] for start in range(0, len(users), _QUERY_USERS))
    stored = sum(len(store.events.distinct("user_id", {"user_id": {"$in": batch}})) for batch in batches)
    if stored < len(users):
        raise DataError(
            f"{len(users) - stored:,} users of this list have been erased since they were scored.",
            remedy="score all users again.",
        )


def draw_control_group(members: pd.DataFrame, share: float, seed: int) -> BoolArray:
    """Mask of a random share of `members` (`user_id`, `as_of`), rounded to whole users.

    The draw depends only on the seed and each row, not on the order of the rows.
    """
    draws = row_hash_fraction(members, seed + 1)
    control = np.zeros(len(members), bool)
    control[np.argsort(draws, kind="stable")[: round(share * len(members))]] = True
    return control


def _audience_id(spec: ModelSpec, as_of: datetime, sizing: Sizing, seed: int) -> str:
    sizes = {"budget": sizing.budget, "recall": sizing.recall, "no-miss": 1}
    size = sizes.get(sizing.point) or f"{sizing.cost:g}/{sizing.value:g}"
    return f"{iso(as_of)}:{spec.version}:{sizing.point}={size}:control={sizing.control:g}:seed={seed}"


def _header(audience: Audience, sizing: Sizing, seed: int) -> Document:
    fields = {name: value for name, value in asdict(audience).items() if name not in {"file", "audience_id"}}
    fields["expected_buyers_interval"] = list(audience.expected_buyers_interval)
    return {"_id": audience.audience_id, **fields, "sizing": asdict(sizing), "seed": seed}


def _member_documents(draw: AudienceDraw) -> Iterator[Document]:
    members = draw.members
    columns = (members["user_id"], members["probability"], members["rank"], draw.in_control_group)
    for user, probability, rank, in_control in zip(*(list(column) for column in columns), strict=True):
        group = "control" if in_control else "contact"
        yield {"user_id": user, "probability": float(probability), "rank": int(rank), "group": group}
