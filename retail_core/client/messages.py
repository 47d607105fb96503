"""What the client asks of the HTTP service, and what the service answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from retail_core.times import iso

Event = Mapping[str, object]
Features = Mapping[str, float | None]


@dataclass(frozen=True)
class Item:
    """One question; give `events` or `features` or neither. `reasons` asks why. See docs/api.md."""

    user_id: str
    as_of: datetime | None = None
    events: Sequence[Event] | None = None
    features: Features | None = None
    reasons: bool = False

    def body(self) -> dict[str, object]:
        """As JSON values."""
        as_of = None if self.as_of is None else iso(self.as_of)
        given: dict[str, object] = {"as_of": as_of, "events": self.events, "features": self.features}
        given["reasons"] = self.reasons or None
        return {"user_id": self.user_id, **{name: v for name, v in given.items() if v is not None}}


@dataclass(frozen=True)
class Reason:
    """What `raises` or `lowers` (`effect`) a probability, and its part, 0 to 1, of all that moves it."""

    text: str
    effect: str
    share: float


@dataclass(frozen=True)
class Prediction:
    """What the service says of one user; times are ISO 8601, UTC."""

    user_id: str
    probability: float
    will_purchase: bool
    contact: bool
    threshold: float
    model_version: str
    policy: str
    as_of: str
    history: str
    eligible: bool | None = None
    features_missing: int | None = None
    warnings: Sequence[str] = ()
    reasons: Sequence[Reason] = ()


@dataclass(frozen=True)
class Refusal:
    """Why one item of a list has no prediction."""

    user_id: str | None
    status: int
    detail: str
    errors: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Accepted:
    """What became of posted events: received = inserted + duplicates + refused."""

    received: int
    inserted: int
    duplicates: int
    refused: int
    errors: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class ScoredFile:
    """The scored CSV of an uploaded file, and its counts."""

    csv: bytes
    report: Mapping[str, Any] = field(default_factory=dict)
