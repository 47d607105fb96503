"""The open store and its lake as one object, which the edges create and the upper packages receive.

Settings, lake and registry all follow from the store's settings, so that they cannot disagree. Packages below
this module (`registry`, `model`, `features`, `ingest`, `store`) receive only the store or the lake they need.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from retail_core.errors import DataError
from retail_core.features.cutoffs.list_cutoff import describe_window, list_cutoff
from retail_core.features.engine import EngineOptions
from retail_core.features.prediction_task import PredictionTask
from retail_core.settings import Settings
from retail_core.store.lake.table import Lake, sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.ledger import shop_zone
from retail_core.times import last_midnight, parse_instant


@dataclass(frozen=True)
class Workspace:
    """An open store and the lake that its settings name. Creating one does not synchronize the lake."""

    store: Store
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lake", Lake(self.store.settings.lake_url))

    @classmethod
    def synchronized(cls, store: Store) -> Workspace:
        """The workspace of an open store, after applying to the lake what ingestion has committed."""
        sync(store)
        return cls(store)

    def pinned(self) -> Workspace:
        """The same workspace whose lake stays at its present state, whatever is synchronized later."""
        pinned = Workspace(self.store)
        object.__setattr__(pinned, "lake", self.lake.snapshot())
        return pinned

    @property
    def settings(self) -> Settings:
        """The settings that the store was opened with."""
        return self.store.settings

    @property
    def engine(self) -> EngineOptions:
        """The engine that computes batch features, as the settings name it."""
        return EngineOptions.from_settings(self.settings)

    @property
    def zone(self) -> str:
        """IANA time zone in which the shop's days begin."""
        return shop_zone(self.store)

    @property
    def task(self) -> PredictionTask:
        """The prediction task of the settings, in the shop's time zone."""
        return PredictionTask.from_settings(self.settings, self.zone)

    @property
    def newest_event(self) -> datetime:
        """Time of the newest event, UTC; outliers in the far future are ignored.

        Raises:
            DataError: there are no events.
        """
        newest = self.lake.state().newest_event
        if newest is None:
            raise DataError("There are no events yet.", remedy="run `retail ingest FILE --source PRESET`.")
        return newest

    def list_cutoff(self, as_of: str | None) -> datetime:
        """The cut-off of a list of users: the given text, or the default of `list_cutoff`, UTC.

        Args:
            as_of: ISO 8601; read in the shop's time zone where it names none.

        Raises:
            InputError: `as_of` is no instant.
            DataError: there are no events to take the default from.
        """
        if as_of:
            return parse_instant(as_of, self.zone)
        return list_cutoff(self.lake.snapshot(), self.newest_event, self.zone, self.engine)

    def describe_window(self, as_of: datetime, task: PredictionTask, policy: str = "daily") -> str:
        """When the predicted purchases would happen and where the data ends, see `describe_window`."""
        return describe_window(as_of, task, self.lake.state().newest_event, policy)

    def resolve_as_of(self, as_of: str | None, *, midnight: bool) -> datetime:
        """The cut-off of what needs past label windows: the given text, or the default, UTC.

        Training, outcomes and monitoring use it; `list_cutoff` is the one of lists of users.

        Args:
            as_of: ISO 8601; read in the shop's time zone where it names none.
            midnight: the default is the shop's last midnight at or before the newest event; otherwise the
                time of the newest event.

        Raises:
            InputError: `as_of` is no instant.
            DataError: there are no events to take the default from.
        """
        if as_of:
            return parse_instant(as_of, self.zone)
        newest = self.newest_event
        return last_midnight(newest, self.zone) if midnight else newest


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """Open MongoDB and synchronize the lake: the one synchronization of a command.

    Raises:
        DependencyError: MongoDB or the lake cannot be used.
    """
    with open_store(settings) as store:
        yield Workspace.synchronized(store)
