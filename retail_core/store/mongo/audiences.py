"""Audiences in MongoDB: one document for each, and one for each of its members."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from retail_core.file_locks import exclusive_lock
from retail_core.store.mongo.connection import Document, Store

BATCH = 10_000


def replace_audience(store: Store, header: Document, members: Iterable[Document]) -> int:
    """Store an audience in place of the one with the same `_id`; returns its members.

    The header says `writing` until every member is there: a killed run is seen, and the next one of the
    same audience puts it right.
    """
    name, count = header["_id"], 0
    with exclusive_lock(store.settings.home_dir / "audiences.lock"):
        store.audiences.replace_one(
            {"_id": name}, header | {"kind": "audience", "state": "writing"}, upsert=True
        )
        store.audiences.delete_many({"audience": name})
        left = iter(members)
        while batch := list(islice(left, BATCH)):
            documents = [
                {"_id": f"{name}:{one['user_id']}", "kind": "member", "audience": name, **one}
                for one in batch
            ]
            store.audiences.insert_many(documents, ordered=False)
            count += len(documents)
        store.audiences.update_one({"_id": name}, {"$set": {"state": "whole", "members": count}})
    return count


def read_members(store: Store, audience_id: str) -> list[Document]:
    """Members (`user_id, probability, rank, group`) by rank; none of an unfinished audience."""
    if store.audiences.find_one({"_id": audience_id, "state": "whole"}) is None:
        return []
    fields = {"_id": 0, "user_id": 1, "probability": 1, "rank": 1, "group": 1}
    return list(store.audiences.find({"audience": audience_id}, fields).sort("rank", 1))
