"""Last part of the batch: sorted events of whole users to the features of their pairs, with NumPy.

DuckDB and Spark only find, join and sort the events; their numbers are the same because they come from
here. Each kind reads whole arrays of a `Timeline`, so that midnights and arbitrary instants cost the same.
Partial aggregates in the engine, grouped by intervals that no window of any cut-off cuts and joined with the
pairs, took four times as long on 5 million events and 15 midnights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow

from retail_core.features.batch.days import Blocks, LastSessions, last_sessions, sessions
from retail_core.features.batch.keyed import OpenCarts, distinct, open_carts, squares, values
from retail_core.features.batch.timeline import Among, Floats, Ints, Timeline, numbers, or_null, ratio
from retail_core.features.formulas import Algebra
from retail_core.features.kinds import (
    HOUR_US,
    MINUTE_US,
    Cart,
    Clock,
    Concentration,
    Context,
    Count,
    Days,
    Derived,
    Distinct,
    Feature,
    FirstSeen,
    Gap,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    State,
    Total,
)
from retail_core.features.question import Question

Windowed = Count | Total | Distinct | Sessions
"""Kinds whose windows are computed together."""

_MOST_PAIRS = 100_000
_MOST_KEY = 1 << 62


@dataclass(frozen=True)
class Finish:
    """What remains to be done with the events and pairs of some users. Travels to Spark's executors.

    Attributes:
        question: gives the windows.
        features: to compute, each before those that use it.
        types: event types by their code.
    """

    question: Question
    features: tuple[Feature, ...]
    types: tuple[str, ...]

    @property
    def schema(self) -> pyarrow.Schema:
        """Of what it returns."""
        columns = ((feature.name, pyarrow.float64()) for feature in self.features)
        return pyarrow.schema([("pid", pyarrow.int64()), *columns])

    def __call__(self, pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        """`pid` and the features (float64, null = NaN), in the order of `pairs`.

        Args:
            pairs: `pid`, `uid`, `as_of` (microseconds), `clock_*`, `context_*`, by uid and as_of.
            events: of their users, as `Timeline` wants them.
        """
        parts = [self._part(*part) for part in self._parts(pairs, events)]
        return pyarrow.concat_tables([self.schema.empty_table(), *parts])

    def _part(self, pairs: pyarrow.Table, events: pyarrow.Table) -> pyarrow.Table:
        timeline = Timeline(events, pairs, self.question.windows, self.types)
        assembly = Assembly(timeline, pairs, self.question)
        found = {"pid": numbers(pairs, "pid"), **assembly.features(self.features)}
        return pyarrow.table(found, schema=self.schema)

    def _parts(
        self, pairs: pyarrow.Table, events: pyarrow.Table
    ) -> Iterator[tuple[pyarrow.Table, pyarrow.Table]]:
        """Whole users, so many that their arrays fit in memory and their keys in 64 bits."""
        asked, seen = numbers(pairs, "uid"), numbers(events, "uid")
        instants = numbers(pairs, "as_of")
        span = int(np.ptp(instants)) + self.question.lookback_us + 2 if len(instants) else 1
        start = 0
        while start < len(asked):
            far = min(start + _MOST_PAIRS, int(np.searchsorted(asked, asked[start] + _MOST_KEY // span)))
            end = far if far == len(asked) else int(np.searchsorted(asked, asked[far]))
            end = max(end, int(np.searchsorted(asked, asked[start], side="right")))
            inside = slice(*np.searchsorted(seen, [asked[start], asked[end - 1] + 1]))
            yield pairs.slice(start, end - start), events.slice(inside.start, inside.stop - inside.start)
            start = end


class Assembly:
    """The features of some pairs, from their timeline."""

    def __init__(self, timeline: Timeline, pairs: pyarrow.Table, question: Question) -> None:
        self._timeline = timeline
        self._pairs = pairs
        self._question = question
        self._blocks: dict[str | None, Blocks] = {}
        self._windowed: dict[Windowed, Ints] = {}

    def features(self, features: Iterable[Feature]) -> Mapping[str, Floats]:
        """Every feature by name, float64, in the order of the pairs; formulas after what they use."""
        windows = self._question.windows
        found: dict[str, Floats] = {}
        algebra = Algebra(
            found.__getitem__,
            windows,
            div=ratio,
            where=np.where,
            coalesce=lambda a, b: np.where(np.isnan(a), b, a),
        )
        for feature in features:
            kind = feature.kind
            if isinstance(kind, Derived):
                column = kind.formula(algebra)
            elif isinstance(kind, Days):
                days = self._days(kind.event_type)
                column = days.within(feature.window or windows[-1], weekday=kind.weekday)
            elif isinstance(kind, Windowed):
                column = self._over(kind)[windows.index(feature.window) if feature.window else -1]
            else:
                column = self._state(kind)
            found[feature.name] = np.asarray(column, np.float64)
        return found

    def _over(self, kind: Windowed) -> Ints:
        if kind not in self._windowed:
            self._windowed[kind] = self._additive(kind)
        return self._windowed[kind]

    def _additive(self, kind: Windowed) -> Ints:
        """Over all windows, shape (windows, pairs)."""
        timeline = self._timeline
        match kind:
            case Count():
                return timeline.among(kind.event_type).number
            case Total():
                among = timeline.among(kind.event_type)
                return among.sums(values(timeline, among.at))
            case Distinct():
                return distinct(timeline, self._keys(kind))
            case Sessions():
                return sessions(timeline, kind.gap_us)

    def _keys(self, kind: Distinct) -> Ints:
        keys = self._timeline.codes(kind.key)
        if kind.event_type is None:
            return keys
        chosen = self._timeline.among(kind.event_type).at
        only = np.full(len(keys), -1)
        only[chosen] = keys[chosen]
        return only

    def _days(self, event_type: str | None) -> Blocks:
        if event_type not in self._blocks:
            self._blocks[event_type] = Blocks(self._timeline, self._timeline.among(event_type))
        return self._blocks[event_type]

    def _state(self, kind: State) -> Floats | Ints:
        timeline = self._timeline
        match kind:
            case Clock():
                return np.asarray(self._pairs.column(f"clock_{kind.part}"), np.float64)
            case Context():
                return np.asarray(self._pairs.column(f"context_{kind.name}"), np.float64)
            case Since():
                among = timeline.among(kind.event_type)
                return self._since(among, among.end - 1)
            case FirstSeen():
                return self._since(timeline.whole, timeline.whole.begins[-1])
            case Cart():
                return self._cart(kind)
            case _:
                return self._pattern(kind)

    def _pattern(self, kind: Gap | MeanPrice | LastSession | Concentration) -> Floats | Ints:
        timeline = self._timeline
        match kind:
            case Gap():
                return self._gap(kind)
            case MeanPrice():
                among = timeline.among(kind.event_type)
                prices, known = timeline.known("price_minor", among.at)
                return ratio(among.sums(prices)[-1], among.sums(known.astype(np.int64))[-1])
            case LastSession("minutes"):
                return or_null(timeline.whole.number[-1] > 0, self._last_sessions.micros / float(MINUTE_US))
            case LastSession():
                return self._last_sessions.carts if kind.stat == "carts" else self._last_sessions.events
            case Concentration():
                events, squared = squares(timeline, timeline.codes("category"))
                return ratio(squared, events * events)

    def _since(self, among: Among, places: Ints) -> Floats:
        """Hours from the event at that place of the list to the cut-off."""
        seen = np.flatnonzero(among.number[-1])
        moments = np.zeros(len(places), np.int64)
        moments[seen] = self._timeline.ts[among.at[places[seen]]]
        return or_null(among.number[-1] > 0, self._hours(moments))

    def _hours(self, moments: Ints) -> Floats:
        return (self._timeline.as_of - moments) / float(HOUR_US)

    def _cart(self, kind: Cart) -> Floats | Ints:
        carts = self._open_carts
        match kind.stat:
            case "count":
                return carts.number
            case "value":
                return carts.worth
            case "oldest":
                return or_null(carts.number > 0, self._hours(carts.oldest))
            case "newest":
                return or_null(carts.number > 0, self._hours(carts.newest))

    def _gap(self, kind: Gap) -> Floats:
        days = self._days(kind.event_type)
        gaps = np.maximum(days.number - 1, 0)
        match kind.stat:
            case "mean":
                return ratio(days.span, gaps)
            case "last":
                return or_null(gaps > 0, days.last_gap)
            case "spread":
                return ratio(days.squares * gaps, days.span * days.span)

    @cached_property
    def _open_carts(self) -> OpenCarts:
        return open_carts(self._timeline)

    @cached_property
    def _last_sessions(self) -> LastSessions:
        return last_sessions(self._timeline)
