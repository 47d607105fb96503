"""Row counts of ledger windows and files, and the shape of a window's document."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from retail_core.errors import IntegrityError
from retail_core.store.mongo.connection import Document

WINDOW_STATES = ("open", "committed", "undoing", "closed")
"""Closed: by an undo that waited in vain for the commit. Such a window cannot be committed any more."""


@dataclass(frozen=True)
class RowCounts:
    """Row counts of a window or file."""

    rows_read: int = 0
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*(getattr(self, name) + getattr(other, name) for name in asdict(self)))

    def __sub__(self, other: RowCounts) -> RowCounts:
        return RowCounts(*(getattr(self, name) - getattr(other, name) for name in asdict(self)))

    def check(self, subject: str) -> RowCounts:
        """Itself, if the counts add up; `subject` names the window or file in the message.

        Raises:
            IntegrityError: rows_read is not inserted + duplicates + quarantined.
        """
        if self.rows_read != self.inserted + self.duplicates + self.quarantined:
            raise IntegrityError(
                f"The counts of {subject} do not add up: {self.rows_read} rows read, {self.inserted} "
                f"inserted, {self.duplicates} duplicates, {self.quarantined} in quarantine.",
                remedy="let no one else write to the collections, and run the command again.",
            )
        return self


def window_counts(window: Document) -> RowCounts:
    """The counts of a window's document.

    Raises:
        IntegrityError: the document has another shape.
    """
    counts = window.get("counts")
    if not isinstance(counts, dict):
        raise unusable_window(window, f"counts is {counts!r}")
    try:
        return RowCounts(**{name: int(count) for name, count in counts.items()})
    except (TypeError, ValueError) as error:
        raise unusable_window(window, f"counts is {counts!r}") from error


def checked_window(window: Document) -> Document:
    """The document of a window, if it has the fields that decide what is ingested.

    Raises:
        IntegrityError: one is missing or of another type.
    """
    if window.get("state") not in WINDOW_STATES:
        raise unusable_window(window, f"state is {window.get('state')!r}")
    for name in ("window_id", "last_row"):
        if not isinstance(window.get(name), int):
            raise unusable_window(window, f"{name} is {window.get(name)!r}")
    window_counts(window)
    return window


def unusable_window(window: Document, reason: str) -> IntegrityError:
    """The error of a window's document that has another shape."""
    return IntegrityError(
        f"The document {window['_id']!r} of the ingestion ledger is damaged: {reason}.",
        remedy="restore a backup with `retail restore`, or correct the document in `ingest_ledger`.",
    )
