"""Acknowledge posted events after a majority write to MongoDB."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pymongo
from pymongo.errors import PyMongoError

from bentos.messages import EventsAccepted, FieldWarning
from bentos.mongo_connection import PAUSE_SECONDS, is_operation_timeout
from bentos.problems import FieldError, Problem
from bentos.request_items import UNREADABLE, DecodedRows
from retail_core import sources
from retail_core.errors import DependencyError, RetailError
from retail_core.ingest import store_events
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store

WRITER_THREADS = 4
"""Requests that are written at the same time, in threads of their own."""

MAX_PENDING = 64
"""Requests that may be in progress; further ones are refused at once with 503."""

SELECT_SECONDS = 2.0
"""Time limit for reaching MongoDB."""

WRITE_SECONDS = 20.0
"""Time limit for the majority write of the largest request."""

CLOSE_SECONDS = 1.0
REMEDY = "send the same events again in a moment; an event is stored once."


class EventWriter:
    """Writes events with one open store for all requests, opened at the first request.

    After a failure the store is opened again, as an embedded server may have moved to another port. While
    MongoDB is known to be unreachable, one request at a time tries it, once in `PAUSE_SECONDS`, and the
    others fail at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._opening = threading.Lock()
        self._unreachable_until = 0.0
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
        store: Store | None = None
        try:
            store = self._reachable_store()
            with pymongo.timeout(WRITE_SECONDS):
                result = store_events(store, decoded.rows, sources.get_preset("canonical"))
        except (PyMongoError, DependencyError) as error:
            if store is not None and not _is_operation_timeout(error):
                self._discard(store)
            cause = str(error) if isinstance(error, RetailError) else type(error).__name__
            raise _unavailable(cause) from error
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
        if self._store is not None:
            self._discard(self._store)

    def _reachable_store(self) -> Store:
        """The store, after its server has answered.

        Raises:
            Problem: the server did not answer a moment ago, or another request is trying it.
            DependencyError: the server does not answer.
            PyMongoError: the server does not answer any more.
        """
        if not self._opening.acquire(timeout=0.0 if self._unreachable_until else SELECT_SECONDS):
            raise _unavailable("MongoDB does not answer yet")
        try:
            if time.monotonic() < self._unreachable_until:
                raise _unavailable("MongoDB did not answer a moment ago")
            if self._store is None:
                self._store = open_store(self._settings, select_seconds=SELECT_SECONDS)
            else:
                with pymongo.timeout(SELECT_SECONDS):
                    self._store.client.admin.command("ping")
        except (PyMongoError, DependencyError) as error:
            self._unreachable_until = time.monotonic() + PAUSE_SECONDS
            if self._store is not None and not _is_operation_timeout(error):
                _close(self._store)
                self._store = None
            raise
        else:
            self._unreachable_until = 0.0
            return self._store
        finally:
            self._opening.release()

    def _discard(self, store: Store) -> None:
        with self._opening:
            if self._store is store:
                self._store = None
        _close(store)


def _is_operation_timeout(error: Exception) -> bool:
    return isinstance(error, PyMongoError) and is_operation_timeout(error)


def _unavailable(cause: str) -> Problem:
    return Problem(
        503, "dependency-away", f"The events may not be stored: {cause}.", retry=True, remedy=REMEDY
    )


def _close(store: Store) -> None:
    """Close the store, but do not wait for a server that hangs."""
    with suppress(PyMongoError), pymongo.timeout(CLOSE_SECONDS):
        store.close()
