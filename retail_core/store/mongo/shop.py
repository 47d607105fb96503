"""What the stored data say about the shop: its time zone and the cut-off policy that fits it."""

from __future__ import annotations

from retail_core.store.mongo.connection import Store

DEFAULT_ZONE = "UTC"


def shop_zone(store: Store) -> str:
    """IANA zone in which the shop's days begin: the setting, else that of the source with most events."""
    return store.settings.timezone or _of_largest_source(store, "timezone") or DEFAULT_ZONE


def named_policy(store: Store) -> str | None:
    """The cut-off policy that the source with most events names; None where it leaves that open."""
    return _of_largest_source(store, "policy")


def _of_largest_source(store: Store, field: str) -> str | None:
    """`field` of the ledger's files with most inserted rows, summed by source and value of the field."""
    stages: list[dict[str, object]] = [
        {"$match": {"kind": "file", "timezone": {"$type": "string"}}},
        {
            "$group": {
                "_id": {"source": "$source", "value": f"${field}"},
                "rows": {"$sum": "$counts.inserted"},
            }
        },
        {"$sort": {"rows": -1, "_id.source": 1, "_id.value": 1}},
        {"$limit": 1},
    ]
    found = list(store.ledger.aggregate(stages))
    value = found[0]["_id"]["value"] if found else None
    return None if value is None else str(value)
