"""Posted events, stored by a majority of MongoDB's members before anybody is told so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pymongo
from pymongo.errors import PyMongoError

from bentos.connection import PAUSE_SECONDS, only_late
from bentos.intake import Row
from bentos.problems import FieldError, Problem
from bentos.wire import EventsAccepted
from retail_core import sources
from retail_core.errors import DependencyError, RetailError
from retail_core.ingest import store_events
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store

WORKERS = 4
"""Posts that are stored at the same time, in threads that do nothing else."""

MOST_WAITING = 64
"""Posts that may be under way; what comes beyond is told at once to come back."""

SELECT_SECONDS = 2.0
"""So long MongoDB may take to say that it is there."""

STORE_SECONDS = 20.0
"""So long the largest post may take to be durable."""

CLOSE_SECONDS = 1.0


class Poster:
    """Keeps one open store for all requests, opened at the first need; in threads of its own.

    After a failure it is opened anew, as an embedded server may have moved to another port. While MongoDB
    is known to be away one post at a time tries that, once in `PAUSE_SECONDS`, and the others fail at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._opening = threading.Lock()
        self._away_until = 0.0
        self._workers = ThreadPoolExecutor(WORKERS, "posting")
        self._under_way = 0

    async def post(self, rows: Sequence[Row]) -> EventsAccepted:
        """Store canonical events in one window of the ledger; returns once they are durable.

        Raises:
            Problem: 422 where every row is refused, 503 where MongoDB does not answer or too many wait.
        """
        if self._under_way >= MOST_WAITING:
            raise _away(f"{MOST_WAITING} posts wait for MongoDB already")
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, self._post, rows)
        finally:
            self._under_way -= 1

    def _post(self, rows: Sequence[Row]) -> EventsAccepted:
        store: Store | None = None
        try:
            store = self._opened()
            with pymongo.timeout(STORE_SECONDS):
                counts, refused = store_events(store, rows, sources.get("canonical"))
        except (PyMongoError, DependencyError) as error:
            if store is not None and not _late(error):
                self._forget(store)
            said = str(error) if isinstance(error, RetailError) else type(error).__name__
            raise _away(said) from error
        wrong = tuple(
            FieldError(
                f"[{one.line - 1}]" + (f".{one.field}" if one.field else ""), f"{one.rule}: {one.remedy}"
            )
            for one in refused
        )
        if len(wrong) == len(rows):
            raise Problem(422, "invalid-request", "No event could be stored.", wrong)
        return EventsAccepted(
            received=len(rows),
            inserted=counts.inserted,
            duplicates=counts.duplicates,
            refused=counts.quarantined,
            errors=list(wrong),
        )

    def close(self) -> None:
        """Close the connections, once what is under way has ended."""
        self._workers.shutdown(cancel_futures=True)
        if self._store is not None:
            self._forget(self._store)

    def _opened(self) -> Store:
        """The store, of a server that answers now.

        Raises:
            Problem: it did not a moment ago, or another post is finding out.
            DependencyError: it does not.
            PyMongoError: it does not any more.
        """
        if not self._opening.acquire(timeout=0.0 if self._away_until else SELECT_SECONDS):
            raise _away("MongoDB does not answer yet")
        try:
            if time.monotonic() < self._away_until:
                raise _away("MongoDB did not answer a moment ago")
            if self._store is None:
                self._store = open_store(self._settings, select_seconds=SELECT_SECONDS)
            else:
                with pymongo.timeout(SELECT_SECONDS):
                    self._store.client.admin.command("ping")
        except (PyMongoError, DependencyError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            if self._store is not None and not _late(error):
                _close(self._store)
                self._store = None
            raise
        else:
            self._away_until = 0.0
            return self._store
        finally:
            self._opening.release()

    def _forget(self, used: Store) -> None:
        with self._opening:
            if self._store is used:
                self._store = None
        _close(used)


def _late(error: Exception) -> bool:
    return isinstance(error, PyMongoError) and only_late(error)


def _away(why: str) -> Problem:
    return Problem(503, "dependency-away", f"Nothing is known to be stored: {why}.", retry=True)


def _close(store: Store) -> None:
    """A server that hangs does not hold up its client's farewell."""
    with suppress(PyMongoError), pymongo.timeout(CLOSE_SECONDS):
        store.close()
