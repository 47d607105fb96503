"""What parsing noticed beside events and refusals: values left out or changed, and rows left out.

These counts stand beside `rows_read = inserted + duplicates + quarantined` and never change it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from retail_core.arrays import IntArray
from retail_core.arrow_compute import python_value
from retail_core.sources.refusals import REMEDIES, VALUE_LIMIT

MAX_EXAMPLES = 3
"""Examples of each warning that are kept of a file."""


@dataclass(frozen=True)
class Example:
    """One value of a warning; `file` is empty until the file's name is known."""

    line: int
    value: str | None
    file: str = ""


@dataclass(frozen=True)
class ValueWarning:
    """Number of kept events of which a value broke a rule.

    Attributes:
        field: raw column, None for the whole row.
        rule: key of `REMEDIES`.
        count: number of events.
        examples: the first ones.
        remedy: what to correct.
        personal: whether the values can identify a user; then they are not stored.
    """

    field: str | None
    rule: str
    count: int
    examples: tuple[Example, ...]
    remedy: str
    personal: bool = False


@dataclass(frozen=True)
class FilteredRows:
    """Number of rows that the mapping left out.

    Attributes:
        column: raw column of the condition.
        rule: `keep`, `drop` or `event_type`.
        value: dropped event type.
        count: number of rows.
    """

    column: str
    rule: str
    value: str | None
    count: int


@dataclass(frozen=True)
class ParseNotes:
    """Warnings and filtered rows of a window, a file or several files."""

    warnings: tuple[ValueWarning, ...] = ()
    filtered: tuple[FilteredRows, ...] = ()

    def __add__(self, other: ParseNotes) -> ParseNotes:
        if not (other.warnings or other.filtered):
            return self
        return merge_notes([self, other])

    def __bool__(self) -> bool:
        return bool(self.warnings or self.filtered)

    def of_file(self, name: str) -> ParseNotes:
        """These notes with the file's name in each example."""
        return ParseNotes(tuple(_with_file(note, name) for note in self.warnings), self.filtered)

    def documents(self) -> dict[str, list[dict[str, Any]]]:
        """`warnings` and `filtered` as plain lists for a report."""
        return {
            "warnings": [_document(note, with_values=True) for note in self.warnings],
            "filtered": [asdict(rows) for rows in self.filtered],
        }

    def stored_documents(self) -> dict[str, list[dict[str, Any]]]:
        """Like `documents`, without personal values, which would outlive the erasure of their user."""
        warnings = [_document(note, with_values=not note.personal) for note in self.warnings]
        return self.documents() | {"warnings": warnings}

    @classmethod
    def from_documents(cls, document: Mapping[str, Any]) -> ParseNotes:
        """Notes stored with `documents`; none if an older release stored the document."""
        warnings = [
            ValueWarning(**note | {"examples": tuple(Example(**example) for example in note["examples"])})
            for note in document.get("warnings", ())
        ]
        return cls(tuple(warnings), tuple(FilteredRows(**note) for note in document.get("filtered", ())))


def _with_file(warning: ValueWarning, name: str) -> ValueWarning:
    return replace(warning, examples=tuple(replace(example, file=name) for example in warning.examples))


def _document(warning: ValueWarning, *, with_values: bool) -> dict[str, Any]:
    examples = [asdict(example) for example in warning.examples]
    if not with_values:
        examples = [example | {"value": None} for example in examples]
    content = asdict(warning) | {"examples": examples}
    del content["personal"]
    return content


def merge_notes(notes: Iterable[ParseNotes]) -> ParseNotes:
    """The sums of several notes, with the first examples of each warning."""
    warnings: dict[tuple[str | None, str], ValueWarning] = {}
    filtered: dict[tuple[str, str, str | None], int] = {}
    for note in notes:
        for warning in note.warnings:
            before = warnings.get((warning.field, warning.rule))
            count = warning.count + (before.count if before else 0)
            examples = ((before.examples if before else ()) + warning.examples)[:MAX_EXAMPLES]
            merged = replace(warning, count=count, examples=examples)
            warnings[warning.field, warning.rule] = merged
        for rows in note.filtered:
            key = (rows.column, rows.rule, rows.value)
            filtered[key] = filtered.get(key, 0) + rows.count
    return ParseNotes(
        tuple(warnings.values()), tuple(FilteredRows(*key, count) for key, count in filtered.items())
    )


@dataclass
class WarningCollector:
    """Collects the rows of a window whose values break a rule, until it is known which rows are kept.

    Attributes:
        public: raw columns whose values cannot identify a user.
    """

    public: Collection[str]
    entries: list[tuple[str, str, IntArray, pa.Array]] = field(default_factory=list)

    def add(self, name: str, rule: str, rows: IntArray, values: pa.Array) -> None:
        """`rows` of raw column `name` break `rule`; `values` is the whole column."""
        if len(rows):
            self.entries.append((name, rule, rows, values))

    def add_rules(self, name: str, rules: Mapping[int, str], values: pa.Array) -> None:
        """Rows of raw column `name` with the rule that each breaks."""
        for rule in sorted(set(rules.values())):
            rows = np.array([row for row, broken in rules.items() if broken == rule], dtype=np.int64)
            self.add(name, rule, rows, values)

    def notes(self, lines: IntArray, refused: IntArray) -> tuple[ValueWarning, ...]:
        """Counts of the rows that are not in `refused`; `lines` has the line of each row."""
        collected = []
        for name, rule, rows, values in self.entries:
            kept_rows = np.setdiff1d(rows, refused)
            if len(kept_rows):
                first = kept_rows[:MAX_EXAMPLES]
                examples = tuple(Example(int(lines[row]), _short_text(values[int(row)])) for row in first)
                personal = name not in self.public
                collected.append(ValueWarning(name, rule, len(kept_rows), examples, REMEDIES[rule], personal))
        return tuple(collected)


def _short_text(value: pa.Scalar) -> str | None:
    content = python_value(value)
    return None if content is None else str(content)[:VALUE_LIMIT]
