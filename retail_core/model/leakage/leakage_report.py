"""Findings of the guard, as they are logged, printed and raised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from retail_core.errors import LeakageError

CheckLetter = Literal["a", "b", "c", "d", "e", "f"]
Verdict = Literal["refuse", "allowed", "warn"]

CHECKS: dict[str, str] = {
    "a": "columns that alone separate buyers from non-buyers",
    "b": "values of an attribute that reveal the label",
    "c": "values that depend on later events, and event types that announce purchases",
    "d": "attributes without valid_from",
    "e": "shuffled-label control",
    "f": "a whole model too good to be true",
}


@dataclass(frozen=True)
class Finding:
    """One column that reveals the label, or one warning.

    Attributes:
        check: letter of `CHECKS`.
        column: attribute, feature or event type, as `--allow-leak` takes it; empty where no column is meant.
        verdict: `refuse`, `allowed` (by name), or `warn`.
        what: one sentence with the numbers.
        evidence: the numbers: n, the measured value with its interval, and the limit.
    """

    check: CheckLetter
    column: str
    verdict: Verdict
    what: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class LeakageReport:
    """Everything the guard inspected and its findings.

    Attributes:
        checked: one entry per check and policy: how many columns or rows were inspected.
        findings: in the order of the checks.
        warnings: sentences for a person.
        allowed: columns allowed by name.
        model: by policy, a quick model's out-of-fold metrics; `without` has them without the allowed columns.
        control: by policy, the same with shuffled labels.
    """

    checked: tuple[dict[str, Any], ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    allowed: tuple[str, ...]
    model: dict[str, Any]
    control: dict[str, Any]

    @property
    def refused(self) -> tuple[str, ...]:
        """Columns that are refused, without repetition."""
        refused = (finding.column for finding in self.findings if finding.verdict == "refuse")
        return tuple(dict.fromkeys(refused))

    @property
    def verdict(self) -> str:
        """`refused`, `leaky` (a column was allowed by name) or `clean`."""
        if self.refused:
            return "refused"
        return "leaky" if self.allowed else "clean"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        content = asdict(self)
        lists = {name: list(content[name]) for name in ("checked", "findings", "warnings", "allowed")}
        return {"verdict": self.verdict, "refused": list(self.refused), **content, **lists}

    def error(self) -> LeakageError | None:
        """The error to raise; None where nothing is refused."""
        refused = [finding for finding in self.findings if finding.verdict == "refuse"]
        if not refused:
            return None
        first_sentence = {finding.column: finding.what for finding in reversed(refused)}
        sentences = " ".join(first_sentence[column] for column in self.refused)
        flags = " ".join(f"--allow-leak {column}" for column in self.refused)
        return LeakageError(
            f"The data give the answer away. {sentences}",
            remedy=f"leave it out or correct its time, or train with {flags} (never promoted then).",
        )


def merge_reports(reports: Iterable[LeakageReport]) -> LeakageReport:
    """The reports of several policies as one."""
    merged = list(reports)
    order = {check: index for index, check in enumerate(CHECKS)}
    findings = (finding for report in merged for finding in report.findings)
    return LeakageReport(
        checked=tuple(entry for report in merged for entry in report.checked),
        findings=tuple(sorted(findings, key=lambda finding: order[finding.check])),
        warnings=tuple(dict.fromkeys(text for report in merged for text in report.warnings)),
        allowed=tuple(dict.fromkeys(name for report in merged for name in report.allowed)),
        model={name: value for report in merged for name, value in report.model.items()},
        control={name: value for report in merged for name, value in report.control.items()},
    )
