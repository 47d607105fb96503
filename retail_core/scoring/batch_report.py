"""The report of an uploaded file that was scored."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass
class BatchReport:
    """Counts of an uploaded file: rows_read = used + duplicates + refused.

    Attributes:
        kind: `events` or `features`.
        users: users in the scored CSV; `silent_users` had no event in the eligibility window before `as_of`.
        policy: the policies whose calibrators gave the probabilities.
        features_missing: by feature, in how many rows it was missing (files of features only).
        features_ignored: features in the file that the model does not use.
        warnings: limitations of the scores, in sentences; first in the header.
        statement: when the predicted purchases would happen and where the data ends, in words.
        context: the shop context used: `stored`, `file` (computed from it), `usual` (of the training data),
            `unknown` (a model of an earlier release), or `none` where the model needs none.
        filtered: rows that the mapping leaves out on purpose; not part of `rows_read`.
        value_warnings: values of used events that were left out or changed, by column and rule.
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
    statement: str = ""
    context: str = "none"
    filtered: int = 0
    value_warnings: list[dict[str, object]] = field(default_factory=list)
    examples: list[dict[str, object]] = field(default_factory=list)

    def header(self) -> str:
        """The report as one line of ASCII JSON for an HTTP header."""
        header_fields = {"warnings": self.warnings, "statement": self.statement}
        return json.dumps(header_fields | asdict(self), ensure_ascii=True, separators=(",", ":"))
