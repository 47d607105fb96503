"""The promotion gate: whether a challenger replaces the champion, decided on rows that both scored."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from retail_core.model.sampling import Floats
from retail_core.model.splits import Mask
from retail_core.registry.promotion import Decision


@dataclass(frozen=True)
class Contest:
    """The same rows scored by both.

    Attributes:
        users: whose rows.
        labels: whether each bought.
        champion: scores of the champion as it is served.
        challenger: scores of the challenger's procedure, fitted on rows before these.
        later: whether the champion's training data end before these rows begin; where they do not, it has
            seen their answers, and a challenger that wins nevertheless has won the harder contest.
        champion_version: registry version.
    """

    users: pd.Series
    labels: Mask
    champion: Floats
    challenger: Floats
    later: bool
    champion_version: str


def gate(contest: Contest | Decision | None, *, leaky: bool, seed: int) -> Decision:
    """Decide on a challenger.

    Args:
        contest: None where there is no champion to beat; a decision where the two cannot be compared.
        leaky: whether the challenger was allowed a leaking column; then it is refused, whatever it scores.
        seed: of the bootstrap over users.
    """
    from retail_core.model.evaluation.metrics import (
        ap_difference,  # scikit-learn, which a rollback does not need
    )

    if leaky:
        return Decision(False, "refused: it was trained with a column that leaks the answer", {})
    if contest is None:
        return Decision(True, "promoted: there is no champion", {"champion": None})
    if isinstance(contest, Decision):
        return contest
    value, low, high = ap_difference(
        contest.users, contest.labels, contest.challenger, contest.champion, seed
    )
    evidence = {
        "champion": contest.champion_version,
        "ap_difference": value,
        "interval": [low, high],
        "rows": len(contest.labels),
        "positives": int(contest.labels.sum()),
        "rows_later_than_champion": contest.later,
    }
    told = f"AP {value:+.4f} (95 % {low:+.4f} to {high:+.4f}) against version {contest.champion_version}"
    told += f" on the same {len(contest.labels):,} rows, base rate {contest.labels.mean():.2%}"
    if not contest.later:
        told += "; the champion was trained on these rows"
    if low > 0:
        return Decision(True, f"promoted: {told}", evidence)
    return Decision(False, f"kept the champion: {told}", evidence)
