"""What the guard found, as it is logged, printed and refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from retail_core.errors import LeakageError

Check = Literal["a", "b", "c", "d", "e", "f"]
Verdict = Literal["refuse", "allowed", "warn"]

CHECKS: dict[str, str] = {
    "a": "columns that alone tell buyers from others",
    "b": "values of an attribute that name the answer",
    "c": "values that know of later events, and event types that announce purchases",
    "d": "attributes without valid_from",
    "e": "shuffled-label control",
    "f": "a whole model too good to be true",
}


@dataclass(frozen=True)
class Finding:
    """One column that gives the answer away, or one thing to know.

    Attributes:
        check: letter of `CHECKS`.
        column: attribute, feature or event type; what `--allow-leak` takes. Empty where no column is meant.
        verdict: `refuse`, `allowed` (it was admitted by name), or `warn`.
        what: one sentence with the numbers.
        evidence: the numbers: n, what was measured with its interval, and the limit.
    """

    check: Check
    column: str
    verdict: Verdict
    what: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class LeakageReport:
    """Everything the guard looked at, and what it says.

    Attributes:
        checked: one entry for each check and policy: how many columns or rows were looked at.
        findings: in the order of the checks.
        warnings: sentences for a person.
        allowed: columns admitted by name.
        model: by policy, a quick model's out-of-fold figures; `without` has them without what was admitted.
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
        """Columns that are refused, each once."""
        return tuple(dict.fromkeys(one.column for one in self.findings if one.verdict == "refuse"))

    @property
    def verdict(self) -> str:
        """`refused`, `leaky` (something was admitted) or `clean`."""
        if self.refused:
            return "refused"
        return "leaky" if self.allowed else "clean"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        content = asdict(self)
        lists = {name: list(content[name]) for name in ("checked", "findings", "warnings", "allowed")}
        return {"verdict": self.verdict, "refused": list(self.refused), **content, **lists}

    def error(self) -> LeakageError | None:
        """What to raise; None where nothing is refused."""
        bad = [one for one in self.findings if one.verdict == "refuse"]
        if not bad:
            return None
        first = {one.column: one.what for one in reversed(bad)}
        told = " ".join(first[column] for column in self.refused)
        flags = " ".join(f"--allow-leak {column}" for column in self.refused)
        return LeakageError(
            f"The data give the answer away. {told}",
            remedy=f"leave it out or correct its time, or train with {flags} (never promoted then).",
        )


def merge_reports(reports: Iterable[LeakageReport]) -> LeakageReport:
    """The reports of several policies as one."""
    parts = list(reports)
    order = {check: place for place, check in enumerate(CHECKS)}
    findings = sorted((f for part in parts for f in part.findings), key=lambda f: order[f.check])
    return LeakageReport(
        checked=tuple(entry for part in parts for entry in part.checked),
        findings=tuple(findings),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
        allowed=tuple(dict.fromkeys(name for part in parts for name in part.allowed)),
        model={name: value for part in parts for name, value in part.model.items()},
        control={name: value for part in parts for name, value in part.control.items()},
    )
