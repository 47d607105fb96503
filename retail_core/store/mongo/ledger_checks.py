"""Whether the ledger's windows account for the stored events."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retail_core.errors import IntegrityError
from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.row_counts import WINDOW_STATES, checked_window, window_counts

log = logging.getLogger(__name__)

_REMEDY = "restore a backup, or undo and ingest the file again; `retail doctor --deep` lists all of them."


@dataclass(frozen=True)
class WindowMismatch:
    """A committed window whose number of stored events is not the one that it counts."""

    window_id: int
    counted: int
    stored: int

    def __str__(self) -> str:
        return (
            f"Window {self.window_id} of the ingestion ledger counts {self.counted:,} events, and "
            f"{self.stored:,} are stored"
        )


def window_mismatches(store: Store, window_ids: Sequence[int] | None = None) -> list[WindowMismatch]:
    """Committed windows, or those of them with these ids, that do not add up.

    Fewer events than counted are no mismatch where users were erased, which the counts do not follow.

    Raises:
        IntegrityError: the document of a window has another shape.
    """
    query = {} if window_ids is None else {"window_id": {"$in": list(window_ids)}}
    stages: list[dict[str, Any]] = [
        {"$match": query},
        {"$group": {"_id": "$window_id", "rows": {"$sum": 1}}},
    ]
    stored = {group["_id"]: int(group["rows"]) for group in store.events.aggregate(stages)}
    has_erasures = store.erasures.find_one({}, {"_id": 1}) is not None
    mismatches = []
    for window in store.ledger.find(query | {"kind": "window", "state": "committed"}).sort("window_id"):
        counted, rows = window_counts(window).inserted, stored.get(window["window_id"], 0)
        is_of_users = rows == 0 and window.get("users") == counted
        if rows > counted or (rows < counted and not (is_of_users or has_erasures)):
            mismatches.append(WindowMismatch(window["window_id"], counted, rows))
    return mismatches


def check_windows(store: Store, window_ids: Sequence[int]) -> None:
    """Refuse windows with more events than they count; windows with fewer are logged.

    Raises:
        IntegrityError: a window has events that it does not count.
    """
    for mismatch in window_mismatches(store, window_ids):
        if mismatch.stored > mismatch.counted:
            raise IntegrityError(f"{mismatch}.", remedy=_REMEDY)
        log.warning("%s; `retail doctor --deep` checks all windows.", mismatch)


def unknown_windows(store: Store, gaps: Iterable[tuple[int, int | None]]) -> list[int]:
    """Window ids that stored events have and the ledger does not know, the first in each gap.

    Args:
        store: the database.
        gaps: inclusive ranges of ids; None means that it has no end.
    """
    unknown = []
    for first, last in gaps:
        between = {"$gte": first} | ({} if last is None else {"$lte": last})
        usable = {"kind": "window", "state": {"$in": list(WINDOW_STATES)}}
        windows = store.ledger.find(usable | {"window_id": between}, {"window_id": 1})
        recorded_ids = [window["window_id"] for window in windows]
        event = store.events.find_one({"window_id": between | {"$nin": recorded_ids}}, {"window_id": 1})
        # A window is opened before its events are inserted, so one that was opened meanwhile is known now.
        if event and not store.ledger.find_one(usable | {"window_id": event["window_id"]}):
            unknown.append(int(event["window_id"]))
    return unknown


def refuse_unknown_windows(store: Store, gaps: Iterable[tuple[int, int | None]]) -> None:
    """Refuse events whose window the ledger does not know, see `unknown_windows`.

    Raises:
        IntegrityError: there are some.
    """
    for window_id in unknown_windows(store, gaps):
        count = store.events.count_documents({"window_id": window_id})
        raise IntegrityError(
            f"{count:,} events are stored with window {window_id}, which is not in the ingestion ledger.",
            remedy=_REMEDY,
        )


def all_unknown_windows(store: Store) -> list[int]:
    """Every window id that stored events have and the ledger does not know, ascending."""
    recorded_ids = set(store.ledger.distinct("window_id", {"kind": "window"}))
    return sorted(int(window_id) for window_id in set(store.events.distinct("window_id")) - recorded_ids)


def damaged_windows(store: Store) -> list[IntegrityError]:
    """The error of each window's document that has another shape."""
    errors = []
    for window in store.ledger.find({"kind": "window"}).sort("_id"):
        try:
            checked_window(window)
        except IntegrityError as error:
            errors.append(error)
    return errors
