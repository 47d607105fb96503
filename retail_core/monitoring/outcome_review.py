"""What is done whenever predictions may have matured: outcomes of lists and online answers, then shadows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from retail_core.monitoring.matured_predictions import OutcomeReport, mature_predictions
from retail_core.monitoring.online_answers import mature_online_answers
from retail_core.monitoring.shadow_verdicts import ShadowReport, judge_shadows
from retail_core.workspace import Workspace


@dataclass(frozen=True)
class OutcomeReview:
    """Matured predictions, and what followed for the shadows.

    Attributes:
        outcomes: of the lists.
        online: live metrics of online answers by day, policy and version.
        shadows: each shadow that was judged.
    """

    outcomes: OutcomeReport
    online: list[dict[str, Any]]
    shadows: list[ShadowReport]

    def to_dict(self) -> dict[str, Any]:
        """The fields of the outcomes, `online` and `shadows` as plain values."""
        shadows = [asdict(shadow) for shadow in self.shadows]
        return asdict(self.outcomes) | {"online": self.online, "shadows": shadows}


def review_outcomes(workspace: Workspace, *, as_of: datetime) -> OutcomeReview:
    """Label and measure what has matured at `as_of` (aware), and judge the shadows on it.

    Idempotent; see `mature_predictions`, `mature_online_answers` and `judge_shadows`. May change production.
    """
    outcomes = mature_predictions(workspace, as_of=as_of)
    online = mature_online_answers(workspace, as_of=as_of)
    return OutcomeReview(outcomes, online, judge_shadows(workspace, as_of=as_of))
