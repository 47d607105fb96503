"""What the stored data say about the shop: its time zone and the cut-off policy that fits it."""

from __future__ import annotations

from retail_core.store.mongo import Store

DEFAULT_ZONE = "UTC"
DEFAULT_POLICY = "daily"


def shop_zone(store: Store) -> str:
    """IANA zone in which the shop's days begin: the setting, else that of the source with most events."""
    return store.settings.timezone or _of_largest_source(store, "timezone") or DEFAULT_ZONE


def default_policy(store: Store) -> str:
    """The cut-off policy of the source with most events; `daily` where none says."""
    return _of_largest_source(store, "policy") or DEFAULT_POLICY


def _of_largest_source(store: Store, field: str) -> str | None:
    """`field` of the ledger's files with most inserted rows, summed by source and value of the field."""
    stages: list[dict[str, object]] = [
        {"$match": {"kind": "file", field: {"$type": "string"}}},
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
    return str(found[0]["_id"]["value"]) if found else None
