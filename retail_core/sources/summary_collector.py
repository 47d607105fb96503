"""Collects the summary of a log over the windows of one or several files."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from retail_core.arrays import IntArray
from retail_core.schemas import EVENT_TYPES, EventFrame
from retail_core.sources.ingest_summary import IngestSummary
from retail_core.sources.parse_notes import Example, ParseNotes, ValueWarning
from retail_core.sources.refusals import REMEDIES
from retail_core.sources.source import Chunk, Source

DOMINANT_SHARE = 0.10
"""Share of all events above which one user id is reported."""

DOMINANT_USER_EVENTS = 1_000
"""Events of a log below which no user id is reported: in a small log one person can have a large share."""

MAX_EVENT_TYPES = 50
"""Event types of a report; the others are counted together."""

_SIMILAR = 0.85
_COMPACT_USERS = 1_000_000
_FRAME_COLUMNS = {"price": "price_minor"}


@dataclass
class SummaryCollector:
    """Accumulates windows of one source in at most 16 bytes per user beside a million pending ones."""

    source: Source
    _types: Counter[str] = field(default_factory=Counter)
    _first: datetime | None = None
    _last: datetime | None = None
    _absent: set[str] | None = None
    _unread: dict[str, None] = field(default_factory=dict)
    _mapped: set[str] = field(default_factory=set)
    _with_values: set[str] = field(default_factory=set)
    _user_hashes: list[np.ndarray[Any, Any]] = field(default_factory=list)
    _user_counts: list[IntArray] = field(default_factory=list)
    _frequent_users: dict[int, str] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> None:
        """Add one window."""
        absent = set(chunk.absent_columns)
        self._absent = absent if self._absent is None else self._absent & absent
        self._unread |= dict.fromkeys(chunk.unread_columns)
        self._mapped |= set(chunk.mapped_fields)
        events = chunk.events
        if chunk.has_user_rows:
            self._add_users(chunk.users["user_id"].value_counts())
        if events.empty:
            return
        self._with_values |= {
            name for name in self._mapped - self._with_values if _has_values(events, chunk, name)
        }
        self._types.update({str(name): count for name, count in events["event_type"].value_counts().items()})
        times = events["event_time"]
        self._extend_period(times.min().to_pydatetime(), times.max().to_pydatetime())
        self._add_users(events["user_id"].value_counts())

    def merge(self, further: SummaryCollector) -> None:
        """Add the windows of another file."""
        if further._absent is not None:
            self._absent = further._absent if self._absent is None else self._absent & further._absent
        self._unread |= further._unread
        self._mapped |= further._mapped
        self._with_values |= further._with_values
        self._types += further._types
        if further._first is not None and further._last is not None:
            self._extend_period(further._first, further._last)
        self._user_hashes += further._user_hashes
        self._user_counts += further._user_counts
        self._frequent_users |= further._frequent_users

    def summary(self, notes: ParseNotes, *, stored: bool = False) -> IngestSummary:
        """The summary of all windows so far.

        Args:
            notes: notes of the windows; warnings about the log as a whole are added.
            stored: leave out what can identify a user, which would outlive the erasure of the user.
        """
        self._compact_users()
        user, share = self._dominant_user() or (None, None)
        documents = notes + self._log_notes(user, share)
        warnings = documents.stored_documents() if stored else documents.documents()
        types = self._types.most_common(MAX_EVENT_TYPES)
        remaining = self._types.total() - sum(count for _, count in types)
        return IngestSummary(
            first_event=self._first,
            last_event=self._last,
            event_types=dict(types) | ({"(others)": remaining} if remaining else {}),
            users=len(self._user_hashes[0]) if self._user_hashes else 0,
            purchases=self._types["purchase"],
            dominant_user=None if stored else user,
            dominant_share=share,
            absent_columns=tuple(sorted(self._absent or ())),
            unread_columns=tuple(self._unread),
            null_fields=tuple(sorted(self._mapped - self._with_values)) if self._types else (),
            similar_event_types=self._similar_types(),
            warnings=tuple(warnings["warnings"]),
            filtered=tuple(warnings["filtered"]),
        )

    def _similar_types(self) -> dict[str, str]:
        similar = {name: similar_event_type(name) for name in self._types}
        return {name: resembled for name, resembled in similar.items() if resembled}

    def _log_notes(self, user: str | None, share: float | None) -> ParseNotes:
        """Warnings about the log as a whole."""
        types, total = self.source.raw_name("event_type"), self._types.total()
        warnings = [
            _warning(types, "event_type_similar", self._types[name], f"{name} resembles {resembled}")
            for name, resembled in self._similar_types().items()
        ]
        if user is not None and share is not None:
            value = f"{user[:100]} has {share:.0%} of the events"
            warning = _warning(self.source.raw_name("user_id"), "large_user", round(share * total), value)
            warnings.append(replace(warning, personal=True))
        warnings += [
            _warning(name, "column_absent", total, None)
            for name in sorted(self._absent or ())
            if name in self.source.required_columns
        ]
        return ParseNotes(tuple(warnings))

    def _extend_period(self, first: datetime, last: datetime) -> None:
        self._first = first if self._first is None else min(self._first, first)
        self._last = last if self._last is None else max(self._last, last)

    def _add_users(self, counts: pd.Series) -> None:
        names = counts.index.to_numpy(dtype=object)
        hashes, events = pd.util.hash_array(names, categorize=False), counts.to_numpy(dtype=np.int64)
        self._user_hashes.append(hashes)
        self._user_counts.append(events)
        # A user above the share in the whole log is above it in at least one window.
        limit = DOMINANT_SHARE * events.sum()
        for row in np.flatnonzero(events >= limit):
            self._frequent_users[int(hashes[row])] = str(names[row])
        if sum(map(len, self._user_hashes[1:])) > _COMPACT_USERS:
            self._compact_users()

    def _compact_users(self) -> None:
        if len(self._user_hashes) > 1:
            hashes, codes = np.unique(np.concatenate(self._user_hashes), return_inverse=True)
            counts = np.bincount(codes, np.concatenate(self._user_counts)).astype(np.int64)
            self._user_hashes, self._user_counts = [hashes], [counts]

    def _dominant_user(self) -> tuple[str, float] | None:
        """The user with most events and its share, if that is above the limit."""
        total = self._types.total()
        if total < DOMINANT_USER_EVENTS:
            return None
        row = int(self._user_counts[0].argmax())
        share = int(self._user_counts[0][row]) / total
        return (
            (self._frequent_users[int(self._user_hashes[0][row])], share) if share > DOMINANT_SHARE else None
        )


def _warning(name: str, rule: str, count: int, value: str | None) -> ValueWarning:
    examples = () if value is None else (Example(0, value),)
    return ValueWarning(name, rule, count, examples, REMEDIES[rule])


def _has_values(events: EventFrame, chunk: Chunk, name: str) -> bool:
    if name == "event_id":
        return bool(chunk.source_ids.null_count < len(chunk.source_ids))
    return bool(events[_FRAME_COLUMNS.get(name, name)].notna().any())


def similar_event_type(name: str) -> str | None:
    """The known event type that an unknown one resembles, None if there is none.

    >>> [similar_event_type(name) for name in ("PURCHASE", "purchased", "add-to-cart", "page_ping")]
    ['purchase', 'purchase', 'add_to_cart', None]
    """
    if name in EVENT_TYPES:
        return None
    type_by_letters = {_letters(event_type): event_type for event_type in EVENT_TYPES}
    matches = get_close_matches(_letters(name), type_by_letters, 1, _SIMILAR)
    return type_by_letters[matches[0]] if matches else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()
