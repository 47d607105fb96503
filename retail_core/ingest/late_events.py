"""Events that arrive, or are removed, after the outcomes of their period have been measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from retail_core.store.mongo.connection import Document, Store

_BATCH = 500


class LateEvents:
    """Counts late events and the matured predictions whose outcome they change.

    The horizon is the one that the outcomes were labelled with; for outcomes of earlier releases, which did
    not record it, that of the settings. Outcomes are labelled again within seven days after they matured.

    Attributes:
        labelled_until: end of the newest label window with a known outcome; None without outcomes.
        count: events before that.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._usual_horizon = timedelta(hours=store.settings.horizon_hours)
        self._other_horizons = _other_horizons(store)
        self._longest_horizon = max([self._usual_horizon, *self._other_horizons.values()])
        newest = store.outcomes.find_one({}, {"as_of": 1, "model_version": 1}, sort=[("as_of", -1)])
        ends = [as_of + horizon for (as_of, _), horizon in self._other_horizons.items()]
        ends += [_aware(newest["as_of"]) + self._horizon(newest)] if newest else []
        self.labelled_until = max(ends, default=None)
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
            within = {"$gte": outcome["as_of"], "$lt": outcome["as_of"] + self._horizon(outcome)}
            same_label = {"user_id": outcome["user_id"], "event_time": within, "event_type": "purchase"}
            if not self._store.events.find_one(same_label | {"window_id": {"$nin": windows}}, {"_id": 1}):
                self._changed.add(outcome["_id"])

    def _horizon(self, outcome: Document) -> timedelta:
        key = (_aware(outcome["as_of"]), str(outcome["model_version"]))
        return self._other_horizons.get(key, self._usual_horizon)

    def _late(self, events: Iterable[Document]) -> Iterator[Document]:
        if self.labelled_until is not None:
            yield from (event for event in events if _aware(event["event_time"]) < self.labelled_until)

    def _outcomes(self, purchases: list[Document], *, purchased: bool) -> Iterator[Document]:
        """Outcomes whose label window contains one of the purchases and that say `purchased`."""
        fields = {"user_id": 1, "as_of": 1, "model_version": 1}
        for start in range(0, len(purchases), _BATCH):
            times: dict[str, list[datetime]] = {}
            for event in purchases[start : start + _BATCH]:
                times.setdefault(event["user_id"], []).append(_aware(event["event_time"]))
            periods = [
                {"user_id": user, "as_of": {"$gt": at - self._longest_horizon, "$lte": at}}
                for user, instants in times.items()
                for at in instants
            ]
            for outcome in self._store.outcomes.find({"purchased": purchased, "$or": periods}, fields):
                first = _aware(outcome["as_of"])
                end = first + self._horizon(outcome)
                if any(first <= at < end for at in times[outcome["user_id"]]):
                    yield outcome


def _other_horizons(store: Store) -> dict[tuple[datetime, str], timedelta]:
    """Horizons of outcomes, by cut-off and version, that differ from the horizon of the settings."""
    hours = {"$exists": True, "$ne": store.settings.horizon_hours}
    query = {"collection": store.outcomes.name, "horizon_hours": hours}
    return {
        (_aware(entry["as_of"]), str(entry["model_version"])): timedelta(hours=entry["horizon_hours"])
        for entry in store.prediction_windows.find(query)
    }


def _aware(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
