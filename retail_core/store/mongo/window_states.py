"""States of ledger windows: which are committed, and which no longer count."""

from __future__ import annotations

from collections.abc import Iterable

from retail_core.store.mongo.connection import Store
from retail_core.store.mongo.leases import lease_ended


def removed_windows(store: Store, window_ids: Iterable[int]) -> set[int]:
    """Those of the windows that are being undone or were undone."""
    ids = set(window_ids)
    query = {
        "_id": {"$in": [f"window:{window_id}" for window_id in sorted(ids)]},
        "state": {"$ne": "undoing"},
    }
    return ids - {int(window["window_id"]) for window in store.ledger.find(query, {"window_id": 1})}


def is_committed(store: Store, window_id: int) -> bool:
    """Whether the lake has, or will have, the documents of the window."""
    return store.ledger.find_one({"_id": f"window:{window_id}", "state": "committed"}, {"_id": 1}) is not None


def abandoned_windows(store: Store, window_ids: Iterable[int]) -> list[int]:
    """Those of the windows that are not committed and whose run has ended."""
    keys = [f"window:{window_id}" for window_id in sorted(set(window_ids))]
    abandoned = []
    for window in store.ledger.find({"_id": {"$in": keys}, "state": {"$in": ["open", "closed"]}}):
        file = store.ledger.find_one({"_id": window["file_id"]}) or {}
        if lease_ended(store, file.get("lease")):
            abandoned.append(int(window["window_id"]))
    return abandoned
