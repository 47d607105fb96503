"""One open store for the threads of a process, which fails at once while MongoDB is known to be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import pymongo
from pymongo.errors import PyMongoError

from bentos.mongo_connection import PAUSE_SECONDS, is_operation_timeout
from retail_core.errors import DependencyError
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store

SELECT_SECONDS = 2.0
"""Time limit for reaching MongoDB."""

CLOSE_SECONDS = 1.0
Result = TypeVar("Result")


class StoreConnection:
    """A store that is opened at the first operation.

    After a failure the store is opened again, as an embedded server may have moved to another port. While
    MongoDB is known to be unreachable, one operation at a time tries it, once in `PAUSE_SECONDS`, and the
    others fail at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._opening = threading.Lock()
        self._unreachable_until = 0.0

    def run(self, operation: Callable[[Store], Result], seconds: float) -> Result:
        """The result of `operation`, which is ended after that time.

        Raises:
            DependencyError: MongoDB does not answer; the operation may or may not have been carried out.
        """
        store: Store | None = None
        try:
            store = self._reachable_store()
            with pymongo.timeout(seconds):
                return operation(store)
        except (PyMongoError, DependencyError) as error:
            if store is not None and not _is_operation_timeout(error):
                self._discard(store)
            cause = _cause(error)
            raise _unreachable(cause) from error

    def close(self) -> None:
        """Close the store, whose operations have ended."""
        if self._store is not None:
            self._discard(self._store)

    def _reachable_store(self) -> Store:
        """The store, after its server has answered.

        Raises:
            DependencyError: the server does not answer, or another operation is trying it.
            PyMongoError: the server does not answer any more.
        """
        if not self._opening.acquire(timeout=0.0 if self._unreachable_until else SELECT_SECONDS):
            raise _unreachable("MongoDB does not answer yet")
        if time.monotonic() < self._unreachable_until:
            self._opening.release()
            raise _unreachable("MongoDB did not answer a moment ago")
        try:
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


def _cause(error: PyMongoError | DependencyError) -> str:
    if isinstance(error, PyMongoError):
        return f"MongoDB does not answer ({type(error).__name__})"
    return error.message.removesuffix(".")


def _unreachable(cause: str) -> DependencyError:
    return DependencyError(cause, remedy="try again in a moment.")


def _close(store: Store) -> None:
    """Close the store, but do not wait for a server that hangs."""
    with suppress(PyMongoError), pymongo.timeout(CLOSE_SECONDS):
        store.close()
