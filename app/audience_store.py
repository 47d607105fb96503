"""Score all users, draw an audience and store it, for the audience page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from retail_core.scoring.audience_selection import (
    Audience,
    ScoredUsers,
    draw_audience,
    refuse_erased_users,
    score_eligible_users,
    store_audience,
)
from retail_core.scoring.audience_sizing import Sizing
from retail_core.settings import Settings
from retail_core.store.mongo.connection import open_store
from retail_core.temporary_files import temporary_folder
from retail_core.workspace import Workspace, open_workspace

FILE = "audience.csv"


@dataclass(frozen=True)
class StoredAudience:
    """A stored audience, the sizing that it was drawn with, and the CSV of the users to contact."""

    sizing: Sizing
    audience: Audience
    csv: bytes


def score(settings: Settings, as_of: str) -> ScoredUsers:
    """Scores of every eligible user at `as_of` (ISO 8601); empty: the default of lists.

    Raises:
        DataError: there are no events, no model, or nobody is eligible.
        DependencyError: MongoDB or the registry is unreachable.
        InputError: `as_of` is no instant.
    """
    with open_workspace(settings) as workspace:
        now = None if as_of else datetime.now(UTC)
        return score_eligible_users(workspace, workspace.list_cutoff(as_of), now)


def store(settings: Settings, scores: ScoredUsers, sizing: Sizing) -> StoredAudience:
    """Draw the audience with its control group and store it.

    Raises:
        DataError: a user was erased since the scoring, no user is worth the cost, or the recall cannot
            be certified.
        DependencyError: MongoDB is unreachable.
    """
    with open_store(settings) as opened, temporary_folder("retail-audience-") as folder:
        refuse_erased_users(opened, draw_audience(scores, sizing, settings.seed).members["user_id"].tolist())
        out = folder / FILE
        audience = store_audience(Workspace(opened), scores, sizing, out)
        return StoredAudience(sizing, audience, out.read_bytes())
