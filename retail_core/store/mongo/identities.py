"""Identity links: one document per pair of ids, with the files and channels that brought it, for undo.

A document has `from_id`, `to_id`, `linked_at` (the earliest known) and `brought`: one entry per file or
channel with its `file_id`, `source` and its earliest `linked_at`. Adding the same links again adds nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern

from retail_core.attribution import MAX_LINKED_IDS, Link, resolve
from retail_core.store.mongo.connection import Document, Store, duplicate_key_documents
from retail_core.times import to_micros

_BATCH = 5_000


@dataclass(frozen=True)
class StoredLink:
    """A link as it is stored, without what brought it; `linked_at` is aware."""

    from_id: str
    to_id: str
    linked_at: datetime


def link_id(from_id: str, to_id: str) -> str:
    """`_id` of the document of a pair of ids, 32 hex digits."""
    return hashlib.blake2b(f"{from_id}\x1f{to_id}".encode(), digest_size=16).hexdigest()


def add_links(store: Store, links: Sequence[StoredLink], file_ids: Iterable[str], source: str) -> int:
    """Store links that files or a channel brought; returns the number of links that are new or changed.

    Args:
        store: the database.
        links: each pair of ids once.
        file_ids: `_id` in the ledger of the files that have the rows, or of the channel.
        source: name of the source.
    """
    changed = 0
    for file_id in file_ids:
        for start in range(0, len(links), _BATCH):
            changed += _add_batch(store, links[start : start + _BATCH], file_id, source)
    return changed


def _add_batch(store: Store, links: Sequence[StoredLink], file_id: str, source: str) -> int:
    """Insert new links; update those of which the file brings an earlier time, or which it repeats."""
    by_id = {link_id(link.from_id, link.to_id): link for link in links}
    stored = {
        document["_id"]: document["brought"]
        for document in store.identities.find({"_id": {"$in": list(by_id)}}, {"brought": 1})
    }
    documents = [_document(link, file_id, source) for key, link in by_id.items() if key not in stored]
    to_update = {key for key, brought in stored.items() if not _has_entry(brought, by_id[key], file_id)}
    changed = len(documents)
    if documents:
        try:
            store.identities.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            # Another process has stored them since they were looked up.
            rejected = {document["_id"] for document in duplicate_key_documents(error)}
            to_update |= rejected
            changed -= len(rejected)
    if to_update:
        updates = [_update(by_id[key], file_id, source) for key in sorted(to_update)]
        result = store.identities.bulk_write(updates, ordered=False)
        changed += result.upserted_count + result.modified_count
    return changed


def _document(link: StoredLink, file_id: str, source: str) -> Document:
    entry = {"file_id": file_id, "source": source, "linked_at": link.linked_at}
    content = {"from_id": link.from_id, "to_id": link.to_id, "brought": [entry], "linked_at": link.linked_at}
    return {"_id": link_id(link.from_id, link.to_id), **content}


def _has_entry(brought: Sequence[Document], link: StoredLink, file_id: str) -> bool:
    """Whether the file brought the link at the same time or earlier."""
    return any(entry["file_id"] == file_id and entry["linked_at"] <= link.linked_at for entry in brought)


def _update(link: StoredLink, file_id: str, source: str) -> UpdateOne:
    brought = {"$ifNull": ["$brought", []]}
    is_of_file = {"$eq": ["$$entry.file_id", {"$literal": file_id}]}
    of_file = {"$filter": {"input": brought, "as": "entry", "cond": is_of_file}}
    of_others = {"$filter": {"input": brought, "as": "entry", "cond": {"$not": [is_of_file]}}}
    earliest = {
        "$min": {"$concatArrays": [[link.linked_at], {"$map": {"input": of_file, "in": "$$this.linked_at"}}]}
    }
    entry = {"file_id": {"$literal": file_id}, "source": {"$literal": source}, "linked_at": earliest}
    ids = {"from_id": {"$literal": link.from_id}, "to_id": {"$literal": link.to_id}}
    pipeline: list[dict[str, Any]] = [
        {"$set": ids | {"brought": {"$concatArrays": [of_others, [entry]]}}},
        {"$set": {"linked_at": {"$min": "$brought.linked_at"}}},
    ]
    return UpdateOne({"_id": link_id(link.from_id, link.to_id)}, pipeline, upsert=True)


def read_links(store: Store, *ids: str) -> Iterator[Link]:
    """Every link, or those from or to one of the ids."""
    query = _touching(ids) if ids else {}
    collection = store.identities.with_options(read_concern=ReadConcern("majority"))
    for document in collection.find(query, {"from_id": 1, "to_id": 1, "linked_at": 1}):
        yield Link(document["from_id"], document["to_id"], to_micros(document["linked_at"]))


def ids_of_person(store: Store, user_id: str, as_of: datetime) -> tuple[str, ...]:
    """The id itself, then all other ids that belong to its person as known at `as_of` (aware), sorted."""
    links: set[Link] = set()
    names, waiting = {user_id}, {user_id}
    while waiting and len(names) <= MAX_LINKED_IDS + 1:
        links.update(link for link in read_links(store, *waiting) if link.linked_at < to_micros(as_of))
        waiting = {name for link in links for name in link[:2]} - names
        names |= waiting
    identities, instant = resolve(links), to_micros(as_of)
    person = identities.person(user_id, instant, instant)
    ids = {period.user_id for period in identities.periods(person, instant)}
    return (user_id, *sorted(ids - {user_id}))


def linked_ids_of_files(store: Store, file_ids: Iterable[str]) -> Iterator[str]:
    """The ids that the links of some files lead from, in any order."""
    query = {"brought.file_id": {"$in": list(file_ids)}}
    for document in store.identities.find(query, {"from_id": 1}):
        yield str(document["from_id"])


def count_of_file(store: Store, file_id: str, *, only: bool = False) -> int:
    """Number of links that a file brought; `only` counts those that nothing else brought."""
    return store.identities.count_documents(_only_of(file_id) if only else {"brought.file_id": file_id})


def remove_file(store: Store, file_id: str) -> None:
    """Remove what a file brought; a link that something else brought too stays, with that one's time."""
    store.identities.delete_many(_only_of(file_id))
    remaining = {"$filter": {"input": "$brought", "cond": {"$ne": ["$$this.file_id", {"$literal": file_id}]}}}
    pipeline: list[dict[str, Any]] = [
        {"$set": {"brought": remaining}},
        {"$set": {"linked_at": {"$min": "$brought.linked_at"}}},
    ]
    store.identities.update_many({"brought.file_id": file_id}, pipeline)


def remove_ids(store: Store, ids: Iterable[str]) -> None:
    """Remove every link from or to one of the ids."""
    store.identities.delete_many(_touching(ids))


def link_documents(store: Store, ids: Iterable[str]) -> Iterator[Document]:
    """Stored documents of the links from or to one of the ids."""
    yield from store.identities.find(_touching(ids))


def _touching(ids: Iterable[str]) -> Document:
    names = {"$in": list(ids)}
    return {"$or": [{"from_id": names}, {"to_id": names}]}


def _only_of(file_id: str) -> Document:
    of_others = {"$elemMatch": {"file_id": {"$ne": file_id}}}
    return {"brought.file_id": file_id, "brought": {"$not": of_others}}
