"""Documents of a window whose event is stored already or occurs in the window twice.

Two comparisons: by event id, and by the id that release 0.1.0 gave; `repeated_orders.py` compares by order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from retail_core.store.mongo.connection import Document, Store

QUERY_BATCH = 10_000
"""Ids or users of one query."""


@dataclass(frozen=True)
class RepeatedId:
    """A document that is stored already.

    Attributes:
        document: the document of this window.
        same_content: whether its content does not conflict with the stored one.
        stored_id: `_id` of the stored document, which an earlier release may have made by another rule.
        stored_window: its window; None within this window.
    """

    document: Document
    same_content: bool
    stored_id: str
    stored_window: int | None = None


def split_repeated_ids(
    documents: list[Document], same_by_identity: Collection[str] = ()
) -> tuple[list[Document], list[RepeatedId]]:
    """The first document of each id, and the further ones.

    Args:
        documents: of a window.
        same_by_identity: ids that the source's identity made; equal ones are one event, whatever its content.
    """
    if len({document["_id"] for document in documents}) == len(documents):
        return documents, []
    first: dict[str, Document] = {}
    repeats = []
    for document in documents:
        first_document = first.setdefault(document["_id"], document)
        if first_document is not document:
            same = first_document == document or document["_id"] in same_by_identity
            repeats.append(RepeatedId(document, same, document["_id"]))
    return list(first.values()), repeats


def ids_by_v1(documents: list[Document], v1_ids: Sequence[str | None]) -> dict[str, str]:
    """The id of release 0.1.0 by event id, of documents where the two differ."""
    return {
        document["_id"]: v1_id
        for document, v1_id in zip(documents, v1_ids, strict=True)
        if v1_id is not None and v1_id != document["_id"]
    }


def split_stored_under_v1(
    store: Store, v1_ids: Mapping[str, str], documents: list[Document], window_id: int
) -> tuple[list[Document], list[RepeatedId]]:
    """The documents to insert, and those that are stored under their id of release 0.1.0.

    This costs a second hash of each row and one query by id for every `QUERY_BATCH` rows.
    """
    stored: dict[str, int] = {}
    candidates = sorted(set(v1_ids.values()))
    for start in range(0, len(candidates), QUERY_BATCH):
        query = {"_id": {"$in": candidates[start : start + QUERY_BATCH]}}
        for event in store.events.find(query, {"window_id": 1}):
            stored[event["_id"]] = event.get("window_id", 0)
    if not stored:
        return documents, []
    new, repeats = [], []
    for document in documents:
        v1_id = v1_ids.get(document["_id"], "")
        if v1_id not in stored:
            new.append(document)
        elif stored[v1_id] != window_id:
            repeats.append(RepeatedId(document, True, v1_id, stored[v1_id]))
    return new, repeats
