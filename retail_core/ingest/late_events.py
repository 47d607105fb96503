"""Events that arrive, or are removed, after the outcomes of their period have been measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from retail_core.store.mongo.connection import Document, Store

_BATCH = 500


class LateEvents:
    """Counts late events and the matured predictions whose outcome they change.

    The horizon is that of the settings; outcomes are labelled again within seven days after they matured.

    Attributes:
        labelled_until: end of the newest label window with a known outcome; None without outcomes.
        count: events before that.
    """

    def __init__(self, store: Store) -> None:
        newest = store.outcomes.find_one({}, {"as_of": 1}, sort=[("as_of", -1)])
        self._store = store
        self._horizon = timedelta(hours=store.settings.horizon_hours)
        self.labelled_until = newest["as_of"].replace(tzinfo=UTC) + self._horizon if newest else None
        self._changed: set[Any] = set()
        self.count = 0

    @property
    def changed_outcomes(self) -> int:
        """Number of matured predictions whose outcome the events change."""
        return len(self._changed)

    def add(self, events: Iterable[Document]) -> None:
        """Count events that were inserted."""
        purchases = []
        for event in self._late(events):
            self.count += 1
            if event["event_type"] == "purchase":
                purchases.append(event)
        self._changed |= {outcome["_id"] for outcome in self._outcomes(purchases, purchased=False)}

    def remove(self, events: Iterable[Document], removed_windows: Iterable[int]) -> None:
        """Count events that are removed; `removed_windows` are the ledger windows that go with them."""
        windows = sorted(removed_windows)
        late = list(self._late(events))
        self.count += len(late)
        purchases = [event for event in late if event["event_type"] == "purchase"]
        for outcome in self._outcomes(purchases, purchased=True):
            within = {"$gte": outcome["as_of"], "$lt": outcome["as_of"] + self._horizon}
            same_label = {"user_id": outcome["user_id"], "event_time": within, "event_type": "purchase"}
            if not self._store.events.find_one(same_label | {"window_id": {"$nin": windows}}, {"_id": 1}):
                self._changed.add(outcome["_id"])

    def _late(self, events: Iterable[Document]) -> Iterator[Document]:
        if self.labelled_until is not None:
            yield from (event for event in events if _aware(event["event_time"]) < self.labelled_until)

    def _outcomes(self, purchases: list[Document], *, purchased: bool) -> Iterator[Document]:
        """Outcomes whose label window contains one of the purchases and that say `purchased`."""
        fields = {"user_id": 1, "as_of": 1}
        for start in range(0, len(purchases), _BATCH):
            periods = [
                {"user_id": event["user_id"], "as_of": {"$gt": at - self._horizon, "$lte": at}}
                for event in purchases[start : start + _BATCH]
                for at in [_aware(event["event_time"])]
            ]
            yield from self._store.outcomes.find({"purchased": purchased, "$or": periods}, fields)


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
