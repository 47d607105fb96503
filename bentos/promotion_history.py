"""The promotion record as the service answers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from bentos.messages import PromotionEntry, PromotionHistory
from bentos.mongo_connection import Document, MongoConnection
from retail_core.times import from_micros, iso

TIMEOUT_SECONDS = 2.0
MAX_ENTRIES = 1_000


async def read_history(connection: MongoConnection) -> PromotionHistory:
    """Every change of the version in production, newest first, at most `MAX_ENTRIES`.

    Raises:
        DependencyError: MongoDB does not answer.
    """

    async def newest(promotions: AsyncCollection[Document]) -> list[Document]:
        return await promotions.find({}, sort=[("_id", -1)], limit=MAX_ENTRIES).to_list()

    entries = await connection.run("promotions", newest, TIMEOUT_SECONDS)
    return PromotionHistory([_public(entry) for entry in entries])


def _public(entry: Mapping[str, Any]) -> PromotionEntry:
    """An entry of the record; those of release 0.1.0 have no actor."""
    return PromotionEntry(
        number=int(entry["_id"]),
        at=iso(from_micros(int(entry["at"]) * 1_000)),
        kind=str(entry["kind"]),
        version=str(entry["version"]),
        previous=entry["previous"],
        actor=entry.get("actor"),
        reason=entry.get("reason"),
        evidence=entry.get("evidence") or {},
    )
