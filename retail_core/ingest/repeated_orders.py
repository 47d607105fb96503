"""Purchases of an order that were sent again: at another time, or in a further message of the same time.

Separate from `repeats.py`, which compares ids: a message that is sent again has an id of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from datetime import UTC, datetime

from retail_core.ingest.repeats import QUERY_BATCH, RepeatedId
from retail_core.store.mongo.connection import Document, Store

Order = tuple[str, str, str]
"""Source, user and order id."""
Adopt = Callable[[Mapping[str, Document]], list[int]]
"""Moves stored documents of abandoned windows to this window; returns those windows."""
Messages = Mapping[str, int]
"""Number of the message by event id; empty where the items of one message may be in several rows."""

_OF_ROW = {"_id", "window_id", "event_time"}


def split_repeated_orders(
    store: Store, documents: list[Document], window_id: int, adopt: Adopt, messages: Messages
) -> tuple[list[Document], list[RepeatedId]]:
    """The documents to insert, and purchases of an order that has them in another message.

    Of several times the earliest in the window counts, or those that are stored. Of several messages of one
    time each item counts as often as it is in the one that has it most often. Where the messages are not
    known, each row is one, and only a row with the same content in all fields is a repeat.

    Args:
        store: the database.
        documents: of the window, each id once.
        window_id: of the window.
        adopt: see `Adopt`.
        messages: message of each document.
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
        events = stored.get(order, [])
        ids = _ids_at_other_times(purchases, events) | _ids_of_further_messages(purchases, events, messages)
        repeated |= _in_place_of(purchases, ids, events, own_windows)
    new = [document for document in documents if document["_id"] not in repeated]
    return new, [repeat for repeat in repeated.values() if repeat is not None]


def _order(document: Document) -> Order:
    return document["source"], document["user_id"], document["order_id"]


def _stored_purchases(store: Store, orders: Mapping[Order, object]) -> dict[Order, list[Document]]:
    """Stored purchases of these orders, by order."""
    stored: defaultdict[Order, list[Document]] = defaultdict(list)
    keys = sorted(orders)
    for start in range(0, len(keys), QUERY_BATCH):
        batch = keys[start : start + QUERY_BATCH]
        query = {
            "user_id": {"$in": sorted({user for _, user, _ in batch})},
            "event_type": "purchase",
            "order_id": {"$in": sorted({order_id for _, _, order_id in batch})},
        }
        for event in store.events.find(query):
            stored[_order(event)].append(event)
    return stored


def _ids_at_other_times(purchases: list[Document], stored: list[Document]) -> set[str]:
    times = {_utc(event["event_time"]) for event in stored} or {min(map(_time, purchases))}
    return {purchase["_id"] for purchase in purchases if _time(purchase) not in times}


def _ids_of_further_messages(
    purchases: list[Document], stored: list[Document], messages: Messages
) -> set[str]:
    """Ids of the purchases that an earlier message has too; a message that is stored itself is none further.

    Of a message of which only some rows are stored, as after a refusal, the others are new.
    """
    if len(purchases) + len(stored) == 1:
        return set()
    stored_ids = {event["_id"] for event in stored}
    key_of = _item_key if messages else _content_key
    accepted = Counter(map(key_of, stored))
    by_message: dict[Hashable, list[Document]] = {}
    for purchase in purchases:
        by_message.setdefault(messages.get(purchase["_id"], purchase["_id"]), []).append(purchase)
    stored_messages = [rows for rows in by_message.values() if not stored_ids.isdisjoint(_ids(rows))]
    for rows in stored_messages:
        accepted |= Counter(map(key_of, rows))
    repeated: set[str] = set()
    for rows in by_message.values():
        if stored_ids.isdisjoint(_ids(rows)):
            counts: Counter[Hashable] = Counter()
            for purchase in rows:
                key = key_of(purchase)
                counts[key] += 1
                if counts[key] <= accepted[key]:
                    repeated.add(purchase["_id"])
            accepted |= counts
    return repeated


def _in_place_of(
    purchases: list[Document], ids: Collection[str], stored: list[Document], own_windows: Collection[int]
) -> dict[str, RepeatedId | None]:
    """The purchases with `ids`, each with a stored event in whose place it is.

    None instead of a repeat where the stored event was adopted: the window then counts it as its own.
    """
    repeated: dict[str, RepeatedId | None] = {}
    free, own_ids = list(stored), set(_ids(purchases))
    for purchase in purchases:
        if purchase["_id"] not in ids:
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


def _ids(events: Iterable[Document]) -> list[str]:
    return [event["_id"] for event in events]


def _item_key(event: Document) -> Hashable:
    return _time(event), event.get("item_id")


def _content_key(event: Document) -> Hashable:
    content = sorted((name, value) for name, value in event.items() if name not in _OF_ROW)
    return _time(event), tuple(content)


def _time(event: Document) -> datetime:
    return _utc(event["event_time"])


def _utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
