"""Documents of a window whose event is stored already or occurs in the window twice.

Three comparisons: by event id, by the id that release 0.1.0 gave, and by order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

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


Order = tuple[str, str, str]
"""Source, user and order id."""
Adopt = Callable[[Mapping[str, Document]], list[int]]
"""Moves stored documents of abandoned windows to this window; returns those windows."""


def split_repeated_orders(
    store: Store, documents: list[Document], window_id: int, adopt: Adopt
) -> tuple[list[Document], list[RepeatedId]]:
    """The documents to insert, and purchases of an order that has a purchase at another time.

    Of several purchases in the window the earliest counts, of those in several windows the stored one.
    """
    by_order: defaultdict[Order, list[Document]] = defaultdict(list)
    for document in documents:
        if document["event_type"] == "purchase" and "order_id" in document:
            by_order[_order(document)].append(document)
    if not by_order:
        return documents, []
    stored = _stored_purchases(store, by_order)
    own_windows = {window_id, *adopt({event["_id"]: event for events in stored.values() for event in events})}
    repeated: dict[str, RepeatedId | None] = {}
    for order, purchases in by_order.items():
        repeated |= _repeats_of_order(purchases, stored.get(order, []), own_windows)
    new = [document for document in documents if document["_id"] not in repeated]
    return new, [repeat for repeat in repeated.values() if repeat is not None]


def _order(document: Document) -> Order:
    return document["source"], document["user_id"], document["order_id"]


def _stored_purchases(store: Store, orders: Mapping[Order, object]) -> dict[Order, list[Document]]:
    """Stored purchases of these orders, by order."""
    fields = {"source": 1, "user_id": 1, "order_id": 1, "event_time": 1, "item_id": 1, "window_id": 1}
    stored: defaultdict[Order, list[Document]] = defaultdict(list)
    keys = sorted(orders)
    for start in range(0, len(keys), QUERY_BATCH):
        batch = keys[start : start + QUERY_BATCH]
        query = {
            "user_id": {"$in": sorted({user for _, user, _ in batch})},
            "event_type": "purchase",
            "order_id": {"$in": sorted({order_id for _, _, order_id in batch})},
        }
        for event in store.events.find(query, fields):
            stored[_order(event)].append(event)
    return stored


def _repeats_of_order(
    purchases: list[Document], stored: list[Document], own_windows: Collection[int]
) -> dict[str, RepeatedId | None]:
    """The purchases of an order that are repeats, by id; each with a stored event in whose place it is.

    None instead of a repeat where the stored event was adopted: the window then counts it as its own.
    """
    times = {_utc(event["event_time"]) for event in stored} or {
        min(_utc(event["event_time"]) for event in purchases)
    }
    repeated: dict[str, RepeatedId | None] = {}
    free, own_ids = list(stored), {purchase["_id"] for purchase in purchases}
    for purchase in purchases:
        if _utc(purchase["event_time"]) in times:
            continue
        same_item = (event for event in free if event.get("item_id") == purchase.get("item_id"))
        event = next(same_item, free[0] if free else None)
        if event is None or event["_id"] in own_ids:
            repeated[purchase["_id"]] = RepeatedId(purchase, True, purchase["_id"])
            continue
        free.remove(event)
        is_own = event.get("window_id") in own_windows
        repeat = RepeatedId(purchase, True, event["_id"], event.get("window_id", 0))
        repeated[purchase["_id"]] = None if is_own else repeat
    return repeated


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
