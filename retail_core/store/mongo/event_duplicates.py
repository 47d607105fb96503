"""Which stored events and user attributes a window brought a second time.

An event is stored with the window that brought it first. So that it can stay when the file of that window is
undone, each window that brings it again records its id: one document per window, 16 bytes for each id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retail_core.store.mongo.connection import Store

ID_BYTES = 16
IdArray = NDArray[np.bytes_]
COLLECTIONS = ("events", "users")


@dataclass(frozen=True)
class WindowDuplicates:
    """Sorted ids that a window brought although they were stored."""

    window_id: int
    ids: IdArray


def id_array(ids: Sequence[str]) -> IdArray:
    """32 hex digits each -> array of 16 bytes each, shape (ids,)."""
    return np.frombuffer(bytes.fromhex("".join(ids)), f"S{ID_BYTES}")


def hex_ids(ids: IdArray) -> list[str]:
    """Inverse of `id_array`."""
    text = ids.tobytes().hex()
    return [text[start : start + 2 * ID_BYTES] for start in range(0, len(text), 2 * ID_BYTES)]


def record_duplicates(store: Store, window_id: int, ids: Mapping[str, Sequence[str]]) -> None:
    """Store the ids that a window brought again, by collection; replaces those of a killed run of it."""
    fields = {name: id_array(ids[name]).tobytes() for name in COLLECTIONS if ids.get(name)}
    if fields:
        store.event_duplicates.replace_one({"_id": window_id}, fields, upsert=True)


def read_duplicates(store: Store, collection: str, without: Sequence[int]) -> Iterator[WindowDuplicates]:
    """Duplicates in `collection` by ascending window, except those of the windows `without`."""
    query = {"_id": {"$nin": list(without)}, collection: {"$exists": True}}
    for document in store.event_duplicates.find(query, {collection: 1}, sort=[("_id", 1)]):
        ids = np.frombuffer(document[collection], f"S{ID_BYTES}")
        yield WindowDuplicates(int(document["_id"]), np.sort(ids))


def remove_duplicates(store: Store, window_ids: Sequence[int]) -> None:
    """Remove what these windows recorded."""
    store.event_duplicates.delete_many({"_id": {"$in": list(window_ids)}})
