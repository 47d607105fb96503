"""Result of one trigger: what was measured, against which limit, and the action it requests."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

INSUFFICIENT_DATA = "insufficient data"
"""First words of the evidence of a check that could not be measured."""


class Action(StrEnum):
    """What a trigger requests when it fires."""

    RETRAIN = "retrain"
    RECALIBRATE = "recalibrate"
    ALERT = "alert"


@dataclass(frozen=True)
class TriggerCheck:
    """Result of checking one trigger.

    Attributes:
        name: the trigger.
        fired: whether it requests `action`.
        value: what was measured; None where the data do not suffice, then it has not fired.
        limit: threshold of `value`; None where there is none.
        interval: of `value`; of 95 % or always-valid, as `evidence` states. None where there is none.
        action: what is requested if it fires.
        evidence: population, period and figures behind `value`, or what is missing.
    """

    name: str
    fired: bool
    value: float | None
    limit: float | None
    interval: tuple[float, float] | None
    action: Action
    evidence: str

    def to_dict(self) -> dict[str, object]:
        """Plain values, as stored and shown."""
        interval = None if self.interval is None else list(self.interval)
        return asdict(self) | {"interval": interval, "action": str(self.action)}


def insufficient(name: str, limit: float | None, action: Action, missing: str) -> TriggerCheck:
    """The check of a trigger that could not be measured, because of what `missing` says."""
    return TriggerCheck(name, False, None, limit, None, action, f"{INSUFFICIENT_DATA}: {missing}")
