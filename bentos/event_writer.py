"""Acknowledge posted events after a majority write to MongoDB."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from bentos.messages import EventsAccepted, FieldWarning
from bentos.problems import FieldError, Problem
from bentos.request_items import UNREADABLE, DecodedRows
from bentos.store_connection import StoreConnection
from retail_core import sources
from retail_core.errors import DependencyError
from retail_core.ingest import store_events
from retail_core.settings import Settings

WRITER_THREADS = 4
"""Requests that are written at the same time, in threads of their own."""

MAX_PENDING = 64
"""Requests that may be in progress; further ones are refused at once with 503."""

WRITE_SECONDS = 20.0
"""Time limit for the majority write of the largest request."""

REMEDY = "send the same events again in a moment; an event is stored once."


class EventWriter:
    """Writes events in threads of its own; see `StoreConnection` for what happens while MongoDB is away."""

    def __init__(self, settings: Settings) -> None:
        self._connection = StoreConnection(settings)
        self._threads = ThreadPoolExecutor(WRITER_THREADS, "event-writer")
        self._pending = 0

    async def write(self, decoded: DecodedRows) -> EventsAccepted:
        """Store canonical events in one window of the ledger; returns after the majority write.

        Raises:
            Problem: 422 where every row is refused, 503 where MongoDB does not answer or too many wait.
        """
        if self._pending >= MAX_PENDING:
            raise _unavailable(f"{MAX_PENDING} posts wait for MongoDB already")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._write, decoded)
        finally:
            self._pending -= 1

    def _write(self, decoded: DecodedRows) -> EventsAccepted:
        source = sources.get_preset("canonical")
        try:
            result = self._connection.run(
                lambda store: store_events(store, decoded.rows, source), WRITE_SECONDS
            )
        except DependencyError as error:
            raise _unavailable(error.message) from error
        errors = tuple(
            decoded.errors.get(row.line - 1)
            or FieldError(
                f"[{row.line - 1}]" + (f".{row.field}" if row.field else ""), f"{row.rule}: {row.remedy}"
            )
            for row in result.refused
        )
        if len(errors) == len(decoded.rows):
            raise Problem(422, "invalid-request", "No event could be stored.", errors)
        return EventsAccepted(
            received=len(decoded.rows),
            inserted=result.counts.inserted,
            duplicates=result.counts.duplicates,
            refused=result.counts.quarantined,
            errors=list(errors),
            warnings=[
                FieldWarning(warning.field or "", warning.rule, warning.count, warning.remedy)
                for warning in result.notes.warnings
            ],
            unread_fields=[name for name in result.unread_fields if name != UNREADABLE or not decoded.errors],
            links=result.links,
        )

    def close(self) -> None:
        """Close the store after the writes in progress."""
        self._threads.shutdown(cancel_futures=True)
        self._connection.close()


def _unavailable(cause: str) -> Problem:
    return Problem(
        503, "dependency-away", f"The events may not be stored: {cause}.", retry=True, remedy=REMEDY
    )
