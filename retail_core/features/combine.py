"""Last part of the batch: rings (see `rings`) into features, with NumPy.

The engine, DuckDB or Spark, has by now a handful of small rows per pair. A running sum over the rings is
a measure over every window; formulas are computed on whole columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow

from retail_core.features.formulas import Algebra
from retail_core.features.gather import Floats, Gathered, Ints
from retail_core.features.kinds import (
    HOUR_US,
    MINUTE_US,
    Additive,
    Cart,
    Clock,
    Concentration,
    Context,
    Count,
    Days,
    Derived,
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
from retail_core.features.partials import Needs
from retail_core.features.question import Question


@dataclass(frozen=True)
class Finish:
    """What remains to be done with the rows of some pairs. Travels to Spark's executors."""

    question: Question
    needs: Needs
    features: tuple[Feature, ...]

    @property
    def schema(self) -> pyarrow.Schema:
        """Of what it returns."""
        columns = ((feature.name, pyarrow.float64()) for feature in self.features)
        return pyarrow.schema([("pid", pyarrow.int64()), *columns])

    def __call__(self, pairs: pyarrow.Table, parts: Iterable[pyarrow.Table]) -> pyarrow.Table:
        """`pid` and the features (float64, null = NaN), in the order of `pairs`.

        Args:
            pairs: `pid` (ascending), `as_of` (microseconds), `clock_*`, `context_*`.
            parts: rows for `Gathered.add`.
        """
        known = {name: pairs.column(name).to_numpy() for name in pairs.column_names}
        gathered = Gathered(known["pid"], len(self.question.windows))
        for part in parts:
            gathered.add(part)
        assembly = Assembly(known, gathered, self.question, self.needs)
        found = {"pid": known["pid"], **assembly.features(self.features)}
        return pyarrow.table(found, schema=self.schema)


class Assembly:
    """The features of some pairs, put together from what was gathered of them."""

    def __init__(
        self, pairs: Mapping[str, Ints | Floats], gathered: Gathered, question: Question, needs: Needs
    ) -> None:
        """Sum up the rings.

        Args:
            pairs: arrays by name: `pid` (ascending), `as_of`, `clock_*`, `context_*`.
            gathered: of the same pairs; its sums become running sums.
            question: its windows are the rings' ends.
            needs: of the features that are wanted.
        """
        self._pids = np.asarray(pairs["pid"])
        self._pairs = pairs
        self._question = question
        self._needs = needs
        self._values = gathered.values
        self._sums = gathered.sums
        for sums in self._sums.values():
            np.cumsum(sums, axis=0, out=sums)

    def features(self, features: Iterable[Feature]) -> dict[str, Floats]:
        """Every feature by name, float64, in the order of `pid`; formulas after what they use."""
        found: dict[str, Floats] = {}
        algebra = Algebra(
            found.__getitem__,
            self._question.windows,
            div=_ratio,
            where=np.where,
            coalesce=lambda a, b: np.where(np.isnan(a), b, a),
        )
        for feature in features:
            kind = feature.kind
            if isinstance(kind, Derived):
                found[feature.name] = np.asarray(kind.formula(algebra), np.float64)
            elif isinstance(kind, Additive):
                found[feature.name] = self._over(self._measure(kind), feature)
            else:
                found[feature.name] = self._state(kind)
        return found

    def _measure(self, kind: Additive) -> str | None:
        """The column of an additive kind; None where no such event ever occurs."""
        needs = self._needs
        if isinstance(kind, Sessions):
            return "sessions"
        if isinstance(kind, Count):
            return _column("n", needs.counts, kind.event_type)
        if isinstance(kind, Total):
            return _column("v", needs.totals, kind.event_type)
        if isinstance(kind, Days):
            return _column("same" if kind.weekday else "days", needs.days, kind.event_type)
        return _column("d", needs.keys, kind)

    def _over(self, measure: str | None, feature: Feature) -> Floats:
        windows = self._question.windows
        if measure is None or measure not in self._sums:
            return np.zeros(len(self._pids))
        index = windows.index(feature.window) if feature.window else -1
        return np.asarray(self._sums[measure][index], np.float64)

    def _state(self, kind: State) -> Floats:
        match kind:
            case Clock():
                found = np.asarray(self._pairs[f"clock_{kind.part}"], np.float64)
            case Context():
                found = np.asarray(self._pairs[f"context_{kind.name}"], np.float64)
            case Since():
                found = self._hours(self._get(_column("last", self._needs.since, kind.event_type)))
            case FirstSeen():
                found = self._hours(self._get("first_ts"))
            case Cart():
                found = self._cart(kind)
            case _:
                found = self._pattern(kind)
        return found

    def _pattern(self, kind: Gap | MeanPrice | LastSession | Concentration) -> Floats:
        match kind:
            case Gap():
                found = self._gap(kind)
            case MeanPrice():
                total, number = (_column(name, self._needs.prices, kind.event_type) for name in "pq")
                found = _ratio(self._sum(total), self._sum(number))
            case LastSession():
                found = self._last_session(kind)
            case Concentration():
                events = self._get("category_events")
                found = _ratio(self._get("category_squares"), events * events)
        return found

    def _get(self, name: str | None) -> Floats:
        known = self._values.get(name) if name is not None else None
        return np.full(len(self._pids), np.nan) if known is None else known

    def _sum(self, name: str | None) -> Floats:
        """Over the whole look-back; 0 where nothing was seen."""
        known = self._sums.get(name) if name is not None else None
        return np.zeros(len(self._pids)) if known is None else np.asarray(known[-1], np.float64)

    def _hours(self, since: Floats) -> Floats:
        return (np.asarray(self._pairs["as_of"], np.float64) - since) / float(HOUR_US)

    def _cart(self, kind: Cart) -> Floats:
        if kind.stat in ("count", "value"):
            return np.nan_to_num(self._get("cart_items" if kind.stat == "count" else "cart_worth"))
        return self._hours(self._get(f"cart_{kind.stat}"))

    def _gap(self, kind: Gap) -> Floats:
        if kind.event_type not in self._needs.days:
            return self._get(None)
        i = self._needs.days.index(kind.event_type)
        newest = self._get(f"newest_{i}")
        if kind.stat == "last":
            return self._get(f"second_{i}") - newest
        span, gaps = self._get(f"oldest_{i}") - newest, self._sum(f"days_{i}") - 1
        if kind.stat == "mean":
            return _ratio(span, gaps)
        return _ratio(self._sum(f"squares_{i}") * gaps, span * span)

    def _last_session(self, kind: LastSession) -> Floats:
        """A session begun before the look-back begins, for this purpose, with its first event in it."""
        get = self._get
        if kind.stat == "minutes":
            return (get("last_ts") - _first(get("ts_start"), get("first_ts"))) / float(MINUTE_US)
        if kind.stat == "carts":
            return np.nan_to_num(get("carted_last") - _first(get("carted_start"), get("carted_first")))
        return np.nan_to_num(get("nth_last") - _first(get("nth_start"), get("nth_first")) + 1)


def _column(prefix: str, known: Sequence[object], wanted: object) -> str | None:
    return f"{prefix}_{known.index(wanted)}" if wanted in known else None


def _ratio(a: Floats, b: Floats) -> Floats:
    """A / b; NaN where b is 0 or either is NaN."""
    b = np.asarray(b, np.float64)
    return np.asarray(np.divide(a, b, out=np.full(b.shape, np.nan), where=b != 0), np.float64)


def _first(a: Floats, b: Floats) -> Floats:
    return np.where(np.isnan(a), b, a)
