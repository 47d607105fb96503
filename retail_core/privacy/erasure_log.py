"""Record of erased users, from which a restore of an older backup removes them again.

It holds keyed hashes (HMAC-SHA256) of their ids, not the ids. Who has the record and its key can test whether
a given id is in it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pymongo import UpdateOne

from retail_core.privacy.refused_rows import refused_user_ids
from retail_core.store.mongo.connection import Document, Store
from retail_core.store.mongo.identities import read_links

KEY_ID = "key"
"""`_id` of the document with the key; those of the users are the hashes."""

_KEY_BYTES = 32


@dataclass(frozen=True)
class ErasureLog:
    """The erasures of a database.

    Attributes:
        key: of the hashes; empty where nobody has been erased.
        erased_at: end of the last erasure by hash, by MongoDB's clock, aware UTC.
    """

    key: bytes
    erased_at: Mapping[str, datetime]

    @classmethod
    def from_documents(cls, documents: Iterable[Document]) -> ErasureLog:
        """The record from the documents of the collection `erasures`."""
        by_id = {str(document["_id"]): document for document in documents}
        key = bytes(by_id.pop(KEY_ID)["key"]) if KEY_ID in by_id else b""
        return cls(key, {user_hash: document["at"] for user_hash, document in by_id.items()})

    def is_erased_since(self, user_id: str, since: datetime) -> bool:
        """Whether the last erasure of the user ended at or after `since` (aware)."""
        at = self.erased_at.get(hash_user_id(self.key, user_id))
        return at is not None and at >= since


def hash_user_id(key: bytes, user_id: str) -> str:
    """The keyed hash of an id, 64 hexadecimal digits."""
    return hmac.new(key, user_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def record_erasures(store: Store, user_ids: Iterable[str]) -> None:
    """Record that users are erased, at the present time of the server."""
    key = _ensure_key(store)
    for user_id in user_ids:
        store.erasures.update_one(
            {"_id": hash_user_id(key, user_id)}, [{"$set": {"at": "$$NOW"}}], upsert=True
        )


def merge_erasures(store: Store, log: ErasureLog) -> None:
    """Add the entries of another database's record; those made with another key cannot be added."""
    if not log.key:
        return
    store.erasures.update_one({"_id": KEY_ID}, {"$setOnInsert": {"key": log.key}}, upsert=True)
    if _ensure_key(store) != log.key or not log.erased_at:
        return
    store.erasures.bulk_write(
        [
            UpdateOne({"_id": user_hash}, {"$max": {"at": at}}, upsert=True)
            for user_hash, at in log.erased_at.items()
        ],
        ordered=False,
    )


def users_erased_since(
    store: Store, log: ErasureLog, since: datetime, collections: Iterable[str]
) -> list[str]:
    """Stored users whose last erasure ended at or after `since`, ascending.

    Args:
        store: whose users are looked up: in `collections`, by `user_id`, in links and in refused rows.
        log: the record, possibly of another database.
        since: aware.
        collections: collections whose documents have a `user_id`.
    """
    if not log.erased_at:
        return []
    user_ids = {user_id for user_id in _user_ids(store, collections) if log.is_erased_since(user_id, since)}
    return sorted(user_ids)


def _user_ids(store: Store, collections: Iterable[str]) -> Iterator[str]:
    for name in collections:
        groups = store.database[name].aggregate([{"$group": {"_id": "$user_id"}}], allowDiskUse=True)
        yield from (str(group["_id"]) for group in groups)
    for link in read_links(store):
        yield from (link.from_id, link.to_id)
    yield from refused_user_ids(store)


def _ensure_key(store: Store) -> bytes:
    new_key = {"key": secrets.token_bytes(_KEY_BYTES)}
    store.erasures.update_one({"_id": KEY_ID}, {"$setOnInsert": new_key}, upsert=True)
    document = store.erasures.find_one({"_id": KEY_ID}) or new_key
    return bytes(document["key"])
