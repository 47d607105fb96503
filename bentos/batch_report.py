"""What became of an uploaded file, in counts that add up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

SHOWN_REFUSALS = 8
HEADER = "X-Score-Report"


@dataclass
class BatchReport:
    """rows_read = used + duplicates + refused.

    Attributes:
        kind: `events` or `features`.
        users: users in the scored CSV; `silent_users` had no event in the look-back before `as_of`.
        policy: the policies whose calibrators gave the probabilities.
        features_missing: by feature, in how many rows it was missing (files of features only).
        features_ignored: features in the file that the model does without.
        warnings: what whoever reads the scores should know.
        examples: the first refused rows, each with line, field, rule and remedy.
    """

    kind: str
    model_version: str
    as_of: str | None
    rows_read: int
    used: int
    duplicates: int
    refused: int
    users: int = 0
    silent_users: int = 0
    policy: str = ""
    features_missing: dict[str, int] = field(default_factory=dict)
    features_ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    examples: list[dict[str, object]] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)

    def header(self) -> str:
        """As one line of ASCII for an HTTP header."""
        return json.dumps(self.to_dict(), ensure_ascii=True, separators=(",", ":"))
