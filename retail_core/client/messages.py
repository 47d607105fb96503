"""Requests and answers of the HTTP service, as the client represents them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import IO, Any

from retail_core.client.json_values import json_number, json_value, utc_text

EventRecord = Mapping[str, object]
"""A canonical event: values of Python, NumPy or pandas; `docs/api.md` lists the fields."""

RequestFeatures = Mapping[str, float | Decimal | None]
"""Feature name to value; None where it is unknown."""


@dataclass(frozen=True)
class PredictRequest:
    """One prediction to request: from stored events, also with given `events`, or from given `features`.

    Attributes:
        user_id: whose prediction.
        as_of: cut-off, UTC without an offset; None for now.
        events: events of the user, combined with the stored ones; each event id counts once.
        features: feature values, used instead of events.
        reasons: whether to explain the probability.
    """

    user_id: str
    as_of: datetime | None = None
    events: Sequence[EventRecord] | None = None
    features: RequestFeatures | None = None
    reasons: bool = False

    def body(self) -> dict[str, object]:
        """The request as JSON values; unset fields are left out."""
        optional: dict[str, object] = {
            "as_of": None if self.as_of is None else utc_text(self.as_of),
            "events": None if self.events is None else json_value(list(self.events), "events"),
            "features": None if self.features is None else self._features(),
            "reasons": self.reasons or None,
        }
        user_id = json_value(self.user_id, "user_id")
        return {"user_id": user_id} | {name: value for name, value in optional.items() if value is not None}

    def _features(self) -> dict[str, object]:
        features = self.features or {}
        return {name: json_number(value, f"features.{name}") for name, value in features.items()}


@dataclass(frozen=True)
class ReasonForUser:
    """One reason for a probability.

    Attributes:
        text: the reason in plain words.
        effect: `raises` or `lowers`.
        share: part, 0 to 1, of the total absolute contribution of all features.
    """

    text: str
    effect: str
    share: float


@dataclass(frozen=True)
class UserPrediction:
    """The prediction for one user; times are ISO 8601, UTC. `docs/api.md` defines each field."""

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
    reasons: Sequence[ReasonForUser] = ()


@dataclass(frozen=True)
class RejectedRequest:
    """Why one request of a list has no prediction: HTTP status, message, remedy and fields at fault."""

    user_id: str | None
    status: int
    detail: str
    remedy: str = ""
    errors: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class EventsReceipt:
    """Counts of posted events: received = inserted + duplicates + refused.

    `warnings` are values that were left out or changed; `unread_fields` are names that are no event field.
    """

    received: int
    inserted: int
    duplicates: int
    refused: int
    errors: Sequence[Mapping[str, str]] = ()
    warnings: Sequence[Mapping[str, object]] = ()
    unread_fields: Sequence[str] = ()
    links: int = 0


@dataclass(frozen=True)
class FileToScore:
    """A file to upload for scoring.

    Attributes:
        name: file name; its suffix says how the content is packed.
        content: bytes of the file, or an open binary file.
        source: preset of the dialect.
        as_of: cut-off, ISO 8601; empty: the default of lists, from the newest event of the file.
        explained_users: number of most likely buyers that get reasons.
        mapping: YAML text that maps the file, used instead of the source; empty without one.
    """

    name: str
    content: bytes | IO[bytes]
    source: str = "canonical"
    as_of: str = ""
    explained_users: int = 0
    mapping: str = ""

    def form(self) -> dict[str, str]:
        """The text fields of the form; unset ones are left out."""
        dialect = {"mapping": self.mapping} if self.mapping else {"source": self.source}
        cutoff = {"as_of": self.as_of} if self.as_of else {}
        return dialect | {"reasons": str(self.explained_users)} | cutoff


@dataclass(frozen=True)
class ScoredFile:
    """The scored CSV of an uploaded file, and its counts."""

    csv: bytes
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoringJob:
    """A file that was sent for scoring; times are ISO 8601, UTC. `docs/api.md` defines each field."""

    job_id: str
    state: str
    file_name: str
    received_at: str
    model_version: str = ""
    attempts: int = 0
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    problem: Mapping[str, str] | None = None
    report: Mapping[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is completed, has failed or was cancelled."""
        return self.state not in {"queued", "running"}
