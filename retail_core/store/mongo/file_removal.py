"""Steps of removing a file from the ledger and moving what others brought too; see `ingest.undo`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
from pymongo import DESCENDING
from pymongo.errors import PyMongoError

from retail_core.errors import InputError
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.event_duplicates import hex_ids, id_array, read_duplicates
from retail_core.store.mongo.leases import lease_ended, new_lease, new_owner
from retail_core.store.mongo.ledger import file_counts, is_of_users
from retail_core.store.mongo.row_counts import RowCounts, window_counts
from retail_core.store.mongo.window_states import is_committed

_BATCH = 10_000


def begin(store: Store, file: Mapping[str, Any], at: datetime) -> Document:
    """Acquire the lease on a file, set its state to `undoing` and return the document of its undo.

    Raises:
        InputError: another process holds the lease.
    """
    lease, owner = file.get("lease"), new_owner()
    free_leases: list[dict[str, Any]] = [{"lease": None}]
    if lease_ended(store, lease):
        free_leases.append({"lease": lease})
    new_id = f"undo:{file['_id']}:{owner}"
    change = {
        "state": "undoing",
        "lease": new_lease(owner),
        "undo": {"$ifNull": ["$undo", {"$literal": new_id}]},
    }
    present = store.ledger.find_one_and_update(
        {"_id": file["_id"], "$or": free_leases}, [{"$set": change}], return_document=True
    )
    if present is None:
        raise InputError(
            f"{file['file']} is being worked on by process {(lease or {}).get('pid')} on "
            f"{(lease or {}).get('host')}.",
            remedy="wait for it to end, then run the command again.",
        )
    initial = {
        "kind": "undo",
        "undone": file["_id"],
        "file": file["file"],
        "path": file.get("path"),
        "content": file.get("sha256"),
        "text_sha256": file.get("text_sha256"),
        "source": file["source"],
        "ingested_at": file["started_at"],
        "started_at": at,
        "state": "started",
        "window_id": _newest_window(store),
        "owner": owner,
    }
    key = {"_id": present["undo"]}
    store.ledger.update_one(key, {"$setOnInsert": initial}, upsert=True)
    record: Document = store.ledger.find_one(key) or {}
    return record | {"owner": owner}


def _newest_window(store: Store) -> int:
    """The highest window id: the undo keeps it, so that no id is given out twice."""
    newest = store.ledger.find_one({"window_id": {"$gt": 0}}, sort=[("window_id", DESCENDING)])
    return int(newest["window_id"]) if newest else 0


@contextmanager
def releasing_lease(store: Store, record: Mapping[str, Any]) -> Iterator[None]:
    """Release the lease of an undo at the end of the block, if the server is reachable."""
    try:
        yield
    finally:
        with suppress(PyMongoError):
            query = {"_id": record["undone"], "lease.owner": record["owner"]}
            store.ledger.update_one(query, {"$set": {"lease": None}})


def later_v1_file(store: Store, file: Mapping[str, Any]) -> Document | None:
    """A file that release 0.1.0 ingested after `file` and that has duplicates; None if there is none."""
    query = {
        "sha256": {"$exists": True},
        "_id": {"$ne": file["_id"]},
        "source": file["source"],
        "identity_rule": {"$in": [None, "v1"]},
        "counts.duplicates": {"$gt": 0},
        "started_at": {"$gte": file["started_at"]},
    }
    first = store.ledger.find_one({"file_id": file["_id"], "kind": "window"}, sort=[("window_id", 1)])
    if first is None:
        return None
    for later in store.ledger.find(query, sort=[("started_at", DESCENDING)]):
        unrecorded = {
            "file_id": later["_id"],
            "kind": "window",
            "identity_rule": {"$exists": False},
            "counts.duplicates": {"$gt": 0},
            "window_id": {"$gt": first["window_id"]},
        }
        if store.ledger.find_one(unrecorded, {"_id": 1}):
            return later
    return None


def mark_windows(store: Store, record: Mapping[str, Any]) -> list[int]:
    """Set the state of the file's windows, those of replays of its rows included, to `undoing`.

    A replay of rows that several files have is left to the other ones. The ids are recorded with the undo.
    """
    file_id = record["undone"]
    shared = {"for_files": file_id, "for_files.1": {"$exists": True}}
    store.ledger.update_many({"kind": "window"} | shared, {"$pull": {"for_files": file_id}})
    owned = {"kind": "window", "$or": [{"file_id": file_id}, {"for_files": [file_id]}]}
    ids = {int(window["window_id"]) for window in store.ledger.find(owned, {"window_id": 1})}
    ids |= {window_id for window_id, files in _v1_replays(store, file_id).items() if files == {file_id}}
    ids |= set(record.get("windows", ()))
    windows = sorted(ids)
    store.ledger.update_one({"_id": record["_id"]}, {"$set": {"windows": windows}})
    keys = [f"window:{window_id}" for window_id in windows]
    store.ledger.update_many({"_id": {"$in": keys}}, {"$set": {"state": "undoing"}})
    return windows


def mixed_replays(store: Store, file_id: str) -> int:
    """Events that release 0.1.0 replayed from rows of several files, the file among them."""
    mixed = [window_id for window_id, files in _v1_replays(store, file_id).items() if files != {file_id}]
    return store.events.count_documents({"window_id": {"$in": mixed}}) if mixed else 0


def _v1_replays(store: Store, file_id: str) -> dict[int, set[str]]:
    """Replay windows of release 0.1.0 with rows of the file, and the files of their rows."""
    replayed = store.quarantine.distinct(
        "replay_window", {"file_id": file_id, "replay_window": {"$exists": True}}
    )
    windows = store.ledger.find(
        {"_id": {"$in": [f"window:{window_id}" for window_id in replayed]}, "for_files": {"$exists": False}},
        {"window_id": 1},
    )
    ids = [int(window["window_id"]) for window in windows]
    return {
        window_id: set(store.quarantine.distinct("file_id", {"replay_window": window_id}))
        for window_id in ids
    }


def open_windows(store: Store, window_ids: Iterable[int]) -> set[int]:
    """Windows of other runs and requests that are open, except those that a killed run left."""
    query = {"kind": "window", "state": "open", "window_id": {"$nin": list(window_ids)}}
    files: dict[str, bool] = {}
    alive = set()
    for window in store.ledger.find(query, {"window_id": 1, "file_id": 1}):
        file_id = window["file_id"]
        if file_id not in files:
            file = store.ledger.find_one({"_id": file_id}, {"lease": 1})
            files[file_id] = file is None or not lease_ended(store, file.get("lease"))
        if files[file_id]:
            alive.add(int(window["window_id"]))
    return alive


def close_windows(store: Store, window_ids: Iterable[int]) -> None:
    """Let open windows not be committed any more, so that what they brought need not be kept for them."""
    keys = [f"window:{window_id}" for window_id in window_ids]
    store.ledger.update_many({"_id": {"$in": keys}, "state": "open"}, {"$set": {"state": "closed"}})


def leased_file(store: Store, window_ids: Iterable[int]) -> Document | None:
    """The file of one of the windows whose lease is held; None if there is none."""
    keys = [f"window:{window_id}" for window_id in window_ids]
    file_ids = store.ledger.distinct("file_id", {"_id": {"$in": keys}, "state": "open"})
    for file in store.ledger.find({"_id": {"$in": file_ids}, "lease": {"$ne": None}}):
        if not lease_ended(store, file["lease"]):
            return file
    return None


def brought_again(store: Store, collection: str, window_ids: list[int]) -> dict[str, int]:
    """Ids stored with `window_ids` that other committed windows brought too, with the first of the latter.

    A window that is opened during the undo stores its documents anew, see `ingest.window_writer`.
    """
    stored = store.database[collection].find({"window_id": {"$in": window_ids}}, {"_id": 1})
    ids = np.sort(id_array([document["_id"] for document in stored]))
    receivers: dict[str, int] = {}
    if not len(ids):
        return receivers
    for duplicates in read_duplicates(store, collection, window_ids):
        shared = hex_ids(np.intersect1d(ids, duplicates.ids))
        if shared and is_committed(store, duplicates.window_id):
            for key in shared:
                receivers.setdefault(key, duplicates.window_id)
    return receivers


def move_to_windows(
    store: Store, collection: str, receivers: Mapping[str, int], window_ids: list[int]
) -> None:
    """Store documents of the windows `window_ids` with the window that `receivers` has for their id."""
    by_window: dict[int, list[str]] = {}
    for key, receiver in receivers.items():
        by_window.setdefault(receiver, []).append(key)
    for receiver, keys in by_window.items():
        for start in range(0, len(keys), _BATCH):
            query = {"_id": {"$in": keys[start : start + _BATCH]}, "window_id": {"$in": window_ids}}
            store.database[collection].update_many(query, {"$set": {"window_id": receiver}})


def correct_counts(store: Store, record_id: str) -> None:
    """Count again the windows that received events, and their files: duplicates have become inserted rows."""
    record = store.ledger.find_one({"_id": record_id}) or {}
    file_ids = set()
    for window_id in record.get("receivers", []):
        key = {"_id": f"window:{window_id}", "state": "committed"}
        window = store.ledger.find_one(key)
        if window is None:
            continue
        counts = window_counts(window)
        users = store.users.count_documents({"window_id": window_id})
        has_user_rows = is_of_users(store, window["file_id"])
        inserted = users if has_user_rows else store.events.count_documents({"window_id": window_id})
        duplicates = counts.rows_read - counts.quarantined - inserted
        corrected = RowCounts(counts.rows_read, inserted, duplicates, counts.quarantined)
        store.ledger.update_one(key, {"$set": {"counts": asdict(corrected), "users": users}})
        file_ids.add(window["file_id"])
    for file_id in file_ids:
        total = asdict(file_counts(store, file_id))
        store.ledger.update_one({"_id": file_id, "state": "done"}, {"$set": {"counts": total}})


def event_period(store: Store, window_ids: list[int]) -> dict[str, datetime | None]:
    """`first_event` and `last_event` of the windows."""
    stages: list[dict[str, Any]] = [
        {"$match": {"window_id": {"$in": window_ids}}},
        {"$group": {"_id": None, "first": {"$min": "$event_time"}, "last": {"$max": "$event_time"}}},
    ]
    groups = list(store.events.aggregate(stages))
    first, last = (groups[0]["first"], groups[0]["last"]) if groups else (None, None)
    return {"first_event": first, "last_event": last}


def finish(store: Store, record: Mapping[str, Any], window_ids: list[int], at: datetime) -> None:
    """Remove the file's windows and document from the ledger."""
    store.ledger.delete_many({"_id": {"$in": [f"window:{window_id}" for window_id in window_ids]}})
    store.ledger.update_one({"_id": record["_id"]}, {"$set": {"state": "done", "finished_at": at}})
    store.ledger.delete_one({"_id": record["undone"], "state": "undoing"})
