"""Settings, MongoDB and the lake, opened together: what nearly every command and flow needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from retail_core.errors import DataError
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.shop import shop_zone
from retail_core.times import last_midnight


@dataclass(frozen=True)
class Workspace:
    """One open store with its lake in step."""

    settings: Settings
    store: Store
    lake: Lake

    @property
    def newest_event(self) -> datetime:
        """Time of the newest event, UTC; strays of the far future, which wrong clocks bring, aside.

        Raises:
            DataError: there are no events.
        """
        newest = self.lake.state().newest_event
        if newest is None:
            raise DataError("There are no events yet.", remedy="run `retail ingest FILE --source PRESET`.")
        return newest

    @property
    def newest_midnight(self) -> datetime:
        """The last midnight of the shop's zone at or before the newest event, UTC."""
        return last_midnight(self.newest_event, shop_zone(self.store))


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """Open MongoDB and bring the lake up to date."""
    with open_store(settings) as store:
        sync(store)
        yield Workspace(settings, store, Lake(settings.lake_url))
