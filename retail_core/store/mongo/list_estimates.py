"""The estimated quality of each stored list, and what came of it: one document per cut-off and version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from retail_core.store.mongo.connection import Document, Store
from retail_core.times import iso, to_utc_ms


def store_estimate(store: Store, as_of: datetime, version: str, estimate: Mapping[str, object]) -> None:
    """Store the estimate of a list, replacing that of the same cut-off and version.

    What was observed of the list before is removed: the list may have changed.
    """
    document = {"as_of": to_utc_ms(as_of), "model_version": version, **estimate}
    store.list_estimates.replace_one({"_id": _key(as_of, version)}, document, upsert=True)


def store_observed(store: Store, as_of: datetime, version: str, observed: Mapping[str, object]) -> None:
    """Store live metrics beside the estimate of the same list; without an estimate nothing is stored."""
    store.list_estimates.update_one({"_id": _key(as_of, version)}, {"$set": {"observed": dict(observed)}})


def read_estimates(store: Store, version: str, *, newest: int) -> list[Document]:
    """The estimates of the newest lists of a version, oldest first."""
    newest_first = store.list_estimates.find(
        {"model_version": version}, {"_id": 0}, sort=[("as_of", -1)], limit=newest
    )
    return list(newest_first)[::-1]


def _key(as_of: datetime, version: str) -> str:
    return f"{iso(to_utc_ms(as_of))}:{version}"
