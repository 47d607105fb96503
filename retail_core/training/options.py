"""What a training is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from retail_core.model.families import AUTO
from retail_core.model.thresholds import DEFAULT_TARGET


@dataclass(frozen=True)
class TrainOptions:
    """What to train.

    Attributes:
        policies: cut-off policies that make rows; empty for those that fit the shop's log.
        model: a family (`families.MODEL_FAMILIES`), or `auto`: the one that does best on the folds.
        target_recall: share of buyers that `contact` is to find; 1.0 is the no-miss point.
        confidence: of the certificate.
        must_certify: refuse to train where a target below 1.0 cannot be certified; else it is left out.
        allow_leak: columns the leakage guard is told to let pass; brands the version as leaky.
        reason: why it is trained; logged.
    """

    policies: tuple[str, ...] = ()
    model: str = AUTO
    target_recall: float = DEFAULT_TARGET
    confidence: float = 0.95
    must_certify: bool = False
    allow_leak: tuple[str, ...] = ()
    reason: str = "manual"

    @classmethod
    def from_request(
        cls,
        cutoffs: str | None,
        model: str,
        target_recall: float | None,
        confidence: float,
        allow_leak: Iterable[str] = (),
    ) -> TrainOptions:
        """The options of a command or flow.

        Args:
            cutoffs: cut-off policies, separated by commas; None for those that fit the shop's log.
            model: a family, or `auto`.
            target_recall: a recall that is certified or refused; None for the default, where possible.
            confidence: of the certificate.
            allow_leak: columns that the leakage guard lets pass.
        """
        return cls(
            policies=tuple(cutoffs.split(",")) if cutoffs else (),
            model=model,
            target_recall=target_recall or DEFAULT_TARGET,
            confidence=confidence,
            must_certify=target_recall is not None,
            allow_leak=tuple(allow_leak),
        )


@dataclass(frozen=True)
class TrainReport:
    """What came of it; metrics are of the primary policy, on the test period, by the evaluation model.

    `known_until` (ISO 8601) is the end of what was learnt from: as_of, or where the log ended before it.
    """

    run_id: str
    version: str
    promoted: bool
    reason: str
    metrics: dict[str, Any]
    by_policy: dict[str, dict[str, Any]]
    threshold: float
    certificate: dict[str, Any] | None
    certificate_reason: str | None
    price: str
    split: str
    periods: dict[str, dict[str, Any]]
    family: str
    best_params: dict[str, float]
    search: dict[str, Any]
    leakage: dict[str, Any]
    eligible: dict[str, Any]
    known_until: str
    gaps: tuple[str, ...]
    dropped_features: tuple[str, ...]
    features: int
    gate: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"gaps": list(self.gaps), "dropped_features": list(self.dropped_features)}
