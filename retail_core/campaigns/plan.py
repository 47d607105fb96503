"""Plan of a campaign: whom to contact, whom to hold out, and which effect it will be able to show."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from pandera.typing.pandas import DataFrame

from retail_core.arrays import BoolArray
from retail_core.campaigns import records
from retail_core.campaigns.contact_rules import ContactRules, apply_rules
from retail_core.campaigns.detectable_effect import detectable_increase, needed_users
from retail_core.csv_export import require_parent_folder, write_csv
from retail_core.errors import DataError
from retail_core.model.splits import user_hash_fraction
from retail_core.schemas import Prediction
from retail_core.scoring.audience_selection import CSV_COLUMNS, ScoredUsers, score_eligible_users
from retail_core.scoring.audience_sizing import Sizing, select_members
from retail_core.scoring.reason_columns import MOST_EXPLAINED, features_from_lake, with_reasons
from retail_core.store.mongo.connection import Document
from retail_core.workspace import Workspace

STRATA = 10
"""Groups of similar probability, in each of which the same share is held out."""

WANTED_INCREASE = 0.1
"""Relative increase of the share of buyers for which the needed number of users is stated."""


@dataclass(frozen=True)
class CampaignPlan:
    """A stored plan.

    Attributes:
        name: of the campaign.
        as_of: cut-off of the probabilities, UTC.
        model_version: that made them.
        eligible: number of users with a probability.
        excluded: numbers of users that the rules left out, by rule.
        contacted: number of users to contact.
        control: number of users held out.
        expected_buyers: of both groups, without contact.
        base_share: expected share of buyers without contact.
        detectable_increase: smallest increase of that share, relative to it, that the report shows with a
            probability of 80 %; None where it cannot show any.
        needed_users: users with which an increase by `WANTED_INCREASE` would be shown so, control group
            included; None without a control group.
        file: CSV of the users to contact.
        warnings: about the log or the list.
    """

    name: str
    as_of: datetime
    model_version: str
    eligible: int
    excluded: dict[str, int]
    contacted: int
    control: int
    expected_buyers: float
    base_share: float
    detectable_increase: float | None
    needed_users: int | None
    file: Path
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class PlanRequest:
    """What is planned.

    Attributes:
        name: of the campaign.
        as_of: cut-off of the probabilities, aware.
        sizing: number of users, control group included.
        rules: who must not be contacted.
        planned_at: present time, aware.
        cost: of a contact, in the currency of the purchases; None: not stated.
    """

    name: str
    as_of: datetime
    sizing: Sizing
    rules: ContactRules
    planned_at: datetime
    cost: float | None = None


def plan_campaign(
    workspace: Workspace, request: PlanRequest, out: Path, *, now: datetime | None = None
) -> CampaignPlan:
    """Choose and store whom to contact, and write the CSV; the control group is only in MongoDB.

    The same name, cut-off and model give the same groups again.

    Args:
        workspace: the workspace.
        request: what is planned.
        out: CSV of the users to contact, by rank.
        now: instant that the log should reach, aware; None: the cut-off.

    Raises:
        DataError: no model is in production, nobody is eligible or may be contacted.
        InputError: the name is none, the campaign has been sent, or `out` cannot be written.
    """
    records.check_name(request.name)
    require_parent_folder(out)
    scored = score_eligible_users(workspace, request.as_of, now)
    allowed = apply_rules(workspace.store, scored.predictions, request.rules, request.planned_at)
    candidates = cast("DataFrame[Prediction]", allowed.predictions)
    members = candidates[select_members(request.sizing, candidates, scored.served.spec)]
    if members.empty:
        raise DataError(
            f"Nobody of {len(scored.predictions):,} eligible users may be contacted: {allowed.excluded}.",
            remedy="choose another size, or fewer exclusions.",
        )
    control = draw_stratified_control(members["user_id"], request.sizing.control, request.name)
    plan = _describe(request, scored, members, control, allowed.excluded, out)
    records.replace_plan(workspace.store, _document(plan, request), _member_documents(members, control))
    features_of = features_from_lake(workspace.lake.snapshot(), scored.served, workspace.engine)
    contacts = members[~control][list(CSV_COLUMNS)]
    write_csv(with_reasons(scored.served, contacts, features_of, MOST_EXPLAINED), out)
    return plan


def draw_stratified_control(users: pd.Series, share: float, name: str) -> BoolArray:
    """Mask of the users to hold out, at random within `STRATA` groups of successive users.

    Args:
        users: ids in order of probability.
        share: of each group.
        name: of the campaign; each has its own draw.
    """
    salt = hashlib.sha256(name.encode()).hexdigest()[:16]
    draws, control = user_hash_fraction(users, salt), np.zeros(len(users), bool)
    bounds = np.linspace(0, len(users), min(STRATA, len(users)) + 1).round().astype(int)
    for start, end in itertools.pairwise(bounds.tolist()):
        # Cumulative rounding, so that the total has the share as well.
        count = round(share * end) - round(share * start)
        control[start + np.argsort(draws[start:end], kind="stable")[:count]] = True
    return control


def _describe(
    request: PlanRequest,
    scored: ScoredUsers,
    members: pd.DataFrame,
    control: BoolArray,
    excluded: dict[str, int],
    out: Path,
) -> CampaignPlan:
    base, held_out = float(members["probability"].mean()), int(control.sum())
    increase = detectable_increase(base, len(members) - held_out, held_out)
    return CampaignPlan(
        name=request.name,
        as_of=scored.as_of,
        model_version=scored.served.spec.version,
        eligible=len(scored.predictions),
        excluded=excluded,
        contacted=len(members) - held_out,
        control=held_out,
        expected_buyers=float(members["probability"].sum()),
        base_share=base,
        detectable_increase=None if increase is None else increase / base,
        needed_users=needed_users(base, WANTED_INCREASE * base, request.sizing.control),
        file=out,
        warnings=scored.warnings,
    )


def _document(plan: CampaignPlan, request: PlanRequest) -> Document:
    fields = {name: value for name, value in asdict(plan).items() if name not in {"name", "file", "warnings"}}
    rules = {name: value for name, value in asdict(request.rules).items() if name != "blocked"}
    further = {"planned_at": request.planned_at, "cost": request.cost}
    return {"_id": plan.name, **fields, "sizing": asdict(request.sizing), "rules": rules, **further}


def _member_documents(members: pd.DataFrame, control: BoolArray) -> Iterator[Document]:
    users, probabilities = members["user_id"].tolist(), members["probability"].tolist()
    rows = zip(users, probabilities, members["rank"].tolist(), control.tolist(), strict=True)
    for user, probability, rank, held_out in rows:
        group = records.CONTROL if held_out else records.CONTACT
        yield {"user_id": user, "probability": float(probability), "rank": int(rank), "group": group}
