"""Remove what one ingested file brought; what another file or a request brought too stays.

The steps are repeatable: a killed undo is completed by running it again. Until then the file's ledger
document is in state `undoing`, its windows are never copied to the lake, and it cannot be ingested. A
document of kind `undo` records the counts; it stays, and the lake is rebuilt when such documents change.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from retail_core.errors import InputError
from retail_core.ingest.late_events import LateEvents
from retail_core.store.mongo import file_removal, identities, quarantine
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.event_duplicates import COLLECTIONS, remove_duplicates

WAIT_SECONDS = 30.0
"""How long to wait for the windows that other runs and requests have open."""

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class UndoReport:
    """Counts of an undo; events = events_removed + events_kept, and so on.

    Attributes:
        file: name of the file.
        file_id: `_id` it had in the ledger.
        source: name of its source.
        ingested_at: start of the ingestion.
        events: events stored with the file's windows.
        events_removed: events that only this file brought.
        events_kept: events that another file or a request brought too.
        users: user attributes stored with the file's windows.
        users_removed: of these, removed.
        users_kept: of these, kept.
        quarantined: refused rows of the file.
        quarantined_removed: of these, removed.
        quarantined_kept: of these, rows that another file has too.
        windows: ledger windows.
        first_event: time of the earliest event, None without events.
        last_event: time of the latest event.
        changed_outcomes: matured predictions whose outcome the removed events change.
        replayed_elsewhere: events of replays by release 0.1.0 that mixed files; they stay.
        links: identity links that the file brought.
        links_removed: of these, removed.
        links_kept: of these, links that another file or a request brought too.
        already_undone: whether an earlier undo had removed the file.
    """

    file: str
    file_id: str
    source: str
    ingested_at: datetime
    events: int = 0
    events_removed: int = 0
    events_kept: int = 0
    users: int = 0
    users_removed: int = 0
    users_kept: int = 0
    quarantined: int = 0
    quarantined_removed: int = 0
    quarantined_kept: int = 0
    windows: int = 0
    first_event: datetime | None = None
    last_event: datetime | None = None
    changed_outcomes: int = 0
    replayed_elsewhere: int = 0
    links: int = 0
    links_removed: int = 0
    links_kept: int = 0
    already_undone: bool = False


def undo(store: Store, file_id: str, *, at: datetime) -> UndoReport:
    """Remove a file's events, user attributes, refused rows and ledger entries; the lake follows.

    Running it again, also after a kill, gives the same end state.

    Args:
        store: the database.
        file_id: `_id` of the file in the ledger.
        at: current time.

    Raises:
        InputError: there is no such file, another process works on it, or release 0.1.0 ingested a later file
            without recording which of its rows were duplicates of this one.
    """
    file = store.ledger.find_one({"_id": file_id, "kind": "file"})
    if file is None:
        return _earlier_undo(store, file_id)
    _refuse_unrecorded_duplicates(store, file)
    record = file_removal.begin(store, file, at)
    with file_removal.releasing_lease(store, record):
        window_ids = file_removal.mark_windows(store, record)
        _wait_for_open_windows(store, window_ids)
        report = _planned(store, file, window_ids, record)
        _remove(store, window_ids, record)
        file_removal.finish(store, record, window_ids, at)
    return report


def _earlier_undo(store: Store, file_id: str) -> UndoReport:
    record = store.ledger.find_one({"kind": "undo", "undone": file_id}, sort=[("started_at", -1)])
    if record is None:
        raise InputError(
            f"{file_id} is not in the ledger.", remedy="name a file that was ingested, or its id."
        )
    names = ("file", "source", "ingested_at")
    return UndoReport(file_id=file_id, already_undone=True, **{name: record[name] for name in names})


def _refuse_unrecorded_duplicates(store: Store, file: Document) -> None:
    later = file_removal.later_v1_file(store, file)
    if later is not None:
        raise InputError(
            f"{later['file']} was ingested after {file['file']} by release 0.1.0, which did not record which "
            f"of its {later['counts']['duplicates']:,} duplicates {file['file']} had brought.",
            remedy=f"run `retail ingest undo {later['_id']}` first, and ingest that file again afterwards.",
        )


def _wait_for_open_windows(store: Store, window_ids: list[int]) -> None:
    """Wait until the windows that others have open are committed, so that what they bring is kept.

    A request that has not committed its window by then, because it failed, finds the window closed.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    waiting = file_removal.open_windows(store, window_ids)
    while waiting and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        waiting &= file_removal.open_windows(store, window_ids)
    busy = file_removal.leased_file(store, waiting)
    if busy is not None:
        raise InputError(
            f"{busy['file']} is being ingested by process {busy['lease']['pid']} on {busy['lease']['host']}.",
            remedy="wait for it to end, then run this command again.",
        )
    file_removal.close_windows(store, waiting)


def _planned(store: Store, file: Document, window_ids: list[int], record: Document) -> UndoReport:
    """What the undo changes; computed before its first change and stored, so that it survives a kill."""
    names = {entry.name for entry in fields(UndoReport)}
    if "plan" not in record:
        record["plan"] = _plan(store, file["_id"], window_ids)
        update = {"$set": {"plan": record["plan"], "receivers": _receivers(store, window_ids)}}
        store.ledger.update_one({"_id": record["_id"]}, update)
    plan = {name: value for name, value in record["plan"].items() if name in names}
    return UndoReport(file["file"], file["_id"], file["source"], record["ingested_at"], **plan)


def _plan(store: Store, file_id: str, window_ids: list[int]) -> dict[str, Any]:
    plan: dict[str, Any] = {"windows": len(window_ids)}
    for name in COLLECTIONS:
        total = store.database[name].count_documents({"window_id": {"$in": window_ids}})
        shared_ids = len(file_removal.brought_again(store, name, window_ids))
        plan |= {name: total, f"{name}_kept": shared_ids, f"{name}_removed": total - shared_ids}
    rows = quarantine.count_of_file(store, file_id)
    shared = quarantine.count_of_file(store, file_id, shared=True)
    plan |= {"quarantined": rows, "quarantined_kept": shared, "quarantined_removed": rows - shared}
    links, only = (identities.count_of_file(store, file_id, only=only) for only in (False, True))
    plan |= {"links": links, "links_removed": only, "links_kept": links - only}
    plan |= file_removal.event_period(store, window_ids)
    plan["changed_outcomes"] = _changed_outcomes(store, window_ids)
    plan["replayed_elsewhere"] = file_removal.mixed_replays(store, file_id)
    return plan


def _changed_outcomes(store: Store, window_ids: list[int]) -> int:
    late = LateEvents(store)
    if late.labelled_until is None:
        return 0
    shared_ids = file_removal.brought_again(store, "events", window_ids)
    query = {
        "window_id": {"$in": window_ids},
        "event_type": "purchase",
        "event_time": {"$lt": late.labelled_until},
    }
    fields_read = {"user_id": 1, "event_time": 1, "event_type": 1}
    purchases = store.events.find(query, fields_read)
    late.remove((event for event in purchases if event["_id"] not in shared_ids), window_ids)
    return late.changed_outcomes


def _receivers(store: Store, window_ids: list[int]) -> list[int]:
    windows = (file_removal.brought_again(store, name, window_ids).values() for name in COLLECTIONS)
    return sorted({window for values in windows for window in values})


def _remove(store: Store, window_ids: list[int], record: Document) -> None:
    for name in COLLECTIONS:
        shared_ids = file_removal.brought_again(store, name, window_ids)
        # Recorded first: their counts are corrected also if this run is killed after the move.
        store.ledger.update_one(
            {"_id": record["_id"]}, {"$addToSet": {"receivers": {"$each": sorted(set(shared_ids.values()))}}}
        )
        file_removal.move_to_windows(store, name, shared_ids, window_ids)
        for window_id in window_ids:
            store.database[name].delete_many({"window_id": window_id})
    identities.remove_file(store, record["undone"])
    quarantine.remove_file(store, record["undone"], window_ids)
    file_removal.correct_counts(store, record["_id"])
    remove_duplicates(store, window_ids)
