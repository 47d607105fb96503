"""When batches of the log arrived, from the ledger: the silence that each of them ended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from retail_core.store.mongo.connection import Store

_LIVE = timedelta(days=14)
"""A file whose newest event is older than this when it is ingested is history, not a delivery."""


def delivery_silences(store: Store, since: datetime, until: datetime) -> list[tuple[datetime, datetime]]:
    """Newest event before each file that was delivered in a period, and the arrival of the file.

    Args:
        store: the database.
        since: aware.
        until: aware; the period is [since, until].
    """
    query = {"kind": "file", "state": "done", "finished_at": {"$gte": since, "$lte": until}}
    fields = {"finished_at": 1, "summary.last_event": 1}
    files = store.ledger.find(query, fields)
    return silences_between(
        (_utc(file["finished_at"]), _utc(file["summary"]["last_event"]))
        for file in files
        if file.get("summary", {}).get("last_event")
    )


def silences_between(deliveries: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """The newest known event before each delivery, and its arrival.

    Args:
        deliveries: arrival and newest event of each.

    >>> day = lambda number, hour: datetime(2025, 3, number, hour, tzinfo=UTC)
    >>> silences_between([(day(2, 5), day(1, 23)), (day(3, 5), day(2, 22))])
    [(datetime.datetime(2025, 3, 1, 23, 0, tzinfo=datetime.timezone.utc), \
datetime.datetime(2025, 3, 3, 5, 0, tzinfo=datetime.timezone.utc))]
    """
    newest: datetime | None = None
    silences = []
    for arrival, last_event in sorted(deliveries):
        if arrival - last_event > _LIVE:
            continue
        if newest is not None:
            silences.append((newest, arrival))
        newest = min(arrival, last_event) if newest is None else max(newest, min(arrival, last_event))
    return silences


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)
