"""Posted events, stored by a majority of MongoDB's members before anybody is told so."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pymongo.errors import PyMongoError

from bentos.intake import Row
from bentos.problems import FieldError, Problem
from bentos.wire import EventsAccepted
from retail_core import sources
from retail_core.errors import DependencyError, RetailError
from retail_core.ingest import store_events
from retail_core.settings import Settings
from retail_core.store.mongo import Store, open_store


class Poster:
    """Keeps one open store for all requests; thread-safe, opened at the first need.

    After a failure the next request opens it anew: an embedded server may have moved to another port.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._opening = threading.Lock()

    def post(self, rows: Sequence[Row]) -> EventsAccepted:
        """Store canonical events in one window of the ledger; blocks until they are durable.

        Raises:
            Problem: 422 where every row is refused, 503 where MongoDB does not answer.
        """
        try:
            counts, refused = store_events(self._opened(), rows, sources.get("canonical"))
        except (PyMongoError, DependencyError) as error:
            self._forget()
            said = str(error) if isinstance(error, RetailError) else type(error).__name__
            raise Problem(
                503, "dependency-away", f"Nothing is known to be stored: {said}.", retry=True
            ) from error
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
        """Close the connections."""
        self._forget()

    def _opened(self) -> Store:
        with self._opening:
            if self._store is None:
                self._store = open_store(self._settings)
            return self._store

    def _forget(self) -> None:
        with self._opening:
            store, self._store = self._store, None
        if store is not None:
            store.close()


def _field_error(refusal: sources.Refusal) -> FieldError:
    field = f".{refusal.field}" if refusal.field else ""
    return FieldError(f"[{refusal.line - 1}]{field}", f"{refusal.rule}: {refusal.remedy}")
