"""Options of a training, as commands, flows and the retraining decision state them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from retail_core.errors import InputError
from retail_core.model.families import AUTO, select_families
from retail_core.model.thresholds import DEFAULT_TARGET


@dataclass(frozen=True)
class TrainOptions:
    """What to train.

    Attributes:
        policies: cut-off policies of the rows; empty for those that fit the shop's log.
        model: a family (`families.MODEL_FAMILIES`), or `auto` to search all of them.
        target_recall: share of buyers that `contact` must find; 1.0 is the no-miss point.
        confidence: of the certificate.
        must_certify: a target below 1.0 that cannot be certified is an error; else the certificate is left
            out.
        allow_leak: columns that may reveal the label; they mark the version as leaky.
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

    def check(self) -> None:
        """Refuse options that no training can fulfil.

        Raises:
            InputError: an unknown family, or a recall or confidence out of range.
        """
        select_families(self.model)
        if not 0 < self.target_recall <= 1 or not 0 < self.confidence < 1:
            raise InputError(
                f"A recall of {self.target_recall:g} with confidence {self.confidence:g} is out of range.",
                remedy="use a recall in (0, 1] and a confidence in (0, 1).",
            )
