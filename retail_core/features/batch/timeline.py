"""The events of some users in order, and where the windows of their cut-offs lie among them.

A cut-off's windows are stretches of its user's events; two bisections find one. What follows needs no look
at single events per cut-off: a number of events is a difference of places, a sum one of running sums. Seen
from the events, those cut-offs of its user that have an event in their window are a stretch, too (`enters`,
`leaves`), and so are those for which it is the last of its item; `held` adds such stretches up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow

from retail_core.features.kinds import Window

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ORDER = ("uid", "ts", "code", "tie")
"""Events of a timeline are sorted by these columns, as far as there are such."""


@dataclass(frozen=True)
class Among:
    """Some of the events as a list, and the bounds of every window in it.

    Attributes:
        at: places of these events in the timeline, ascending.
        begins: first of the list in each window, shape (windows, pairs).
        end: first of the list that is not before the cut-off, shape (pairs,).
    """

    at: Ints
    begins: Ints
    end: Ints

    @property
    def number(self) -> Ints:
        """How many lie in each window, shape (windows, pairs)."""
        return self.end - self.begins

    def sums(self, values: Ints) -> Ints:
        """Sums of a number of each of the list over each window; 64 bits, and exact if they hold the sum."""
        running = np.zeros(len(values) + 1, np.int64)
        np.cumsum(values, out=running[1:])
        return np.asarray(running[self.end] - running[self.begins], np.int64)


class Timeline:
    """Events and pairs of whole users.

    Attributes:
        user: of each event, counted from the first user on.
        ts: of each event, microseconds.
        code: its type's place in `types`; their number for any other type.
        as_of: of each pair, microseconds.
        events: their number.
        pairs: their number.
        whole: all events as a list.
    """

    def __init__(
        self, events: pyarrow.Table, pairs: pyarrow.Table, windows: Sequence[Window], types: Sequence[str]
    ) -> None:
        """Find the windows.

        Args:
            events: of the pairs' users; `uid`, `ts`, `code` and what else is needed, sorted by `ORDER`.
            pairs: `uid`, `as_of`, sorted by them; at least one.
            windows: ascending; the last one is the look-back.
            types: names of the event types that have a code.
        """
        self._table = events
        self._types = {name: code for code, name in enumerate(types)}
        self.events, self.pairs = len(events), len(pairs)
        self.ts, self.code = numbers(events, "ts"), numbers(events, "code")
        self.as_of = numbers(pairs, "as_of")
        first = numbers(pairs, "uid")[0]
        self.user = numbers(events, "uid") - first
        self._asked = numbers(pairs, "uid") - first
        self._origin = int(self.as_of.min()) - windows[-1].micros - 1
        self._span = int(self.as_of.max()) - self._origin + 1
        self._keys = self._key(self.user, self.ts)
        begins = np.empty((len(windows), self.pairs), np.int64)
        for row, window in zip(begins, windows, strict=True):
            row[:] = self.before(self.as_of - window.micros)
        self.whole = Among(np.arange(self.events), begins, self.before(self.as_of))
        self._among: dict[str | None, Among] = {None: self.whole}
        self._codes: dict[str, Ints] = {}
        self._numbers: dict[str, tuple[Ints, npt.NDArray[np.bool_]]] = {}

    def _key(self, user: Ints, ts: Ints) -> Ints:
        """User and time as one number; times outside all look-backs come before or after all others."""
        return user * self._span + np.clip(ts - self._origin, 0, self._span - 1)

    def before(self, instants: Ints, among: Among | None = None, pairs: Ints | None = None) -> Ints:
        """How many of a list lie before an instant of a pair, those of all users before the pair's included.

        Args:
            instants: one for each of `pairs`.
            among: the list; None for all events.
            pairs: None for all.
        """
        keys = self._keys if among is None else self._keys[among.at]
        asked = self._asked if pairs is None else self._asked[pairs]
        return np.asarray(np.searchsorted(keys, self._key(asked, instants)), np.int64)

    def among(self, event_type: str | None) -> Among:
        """Events of one type (None: of any)."""
        if event_type not in self._among:
            self._among[event_type] = self._of(self.code == self._types.get(str(event_type), -1))
        return self._among[event_type]

    def _of(self, chosen: npt.NDArray[np.bool_]) -> Among:
        at = np.flatnonzero(chosen)
        if not len(at):
            return Among(at, np.zeros_like(self.whole.begins), np.zeros_like(self.whole.end))
        running = np.zeros(self.events + 1, np.int64)
        np.cumsum(chosen, out=running[1:])
        return Among(at, running[self.whole.begins], running[self.whole.end])

    def known(self, column: str, at: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Numbers of these events, 0 where null, and whether they are known."""
        if column not in self._numbers:
            cells = self._table.column(column)
            filled, valid = cells.fill_null(0).to_numpy(), cells.is_valid().to_numpy()
            self._numbers[column] = np.asarray(filled, np.int64), np.asarray(valid, np.bool_)
        values, known = self._numbers[column]
        return values[at], known[at]

    def codes(self, column: str) -> Ints:
        """Texts of a column as numbers, -1 where null."""
        if column not in self._codes:
            encoded = self._table.column(column).dictionary_encode().unify_dictionaries()
            parts = [chunk.indices.fill_null(-1).to_numpy() for chunk in encoded.chunks]
            self._codes[column] = np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)
        return self._codes[column]

    @cached_property
    def enters(self) -> Ints:
        """Of each event the first pair with a cut-off after it; one more entry for no event."""
        return self._from(self.whole.end)

    @cached_property
    def leaves(self) -> Ints:
        """Of each window and event the first pair from `enters` on whose window begins after the event."""
        return np.array([self._from(begins) for begins in self.whole.begins])

    def _from(self, bounds: Ints) -> Ints:
        return np.cumsum(np.bincount(bounds, minlength=self.events + 1))

    def held(self, enter: Ints, leave: Ints, weights: Ints | None = None) -> Ints:
        """The sum of the weights (None: 1 each) of all stretches [enter, leave) of pairs that hold a pair."""
        size = self.pairs + 1
        if weights is None:
            changes = np.bincount(enter, minlength=size) - np.bincount(leave, minlength=size)
        else:
            changes = np.zeros(size, np.int64)
            np.add.at(changes, enter, weights)
            np.subtract.at(changes, leave, weights)
        return np.cumsum(changes)[:-1]


def numbers(table: pyarrow.Table, column: str) -> Ints:
    """A column without nulls."""
    return np.asarray(table.column(column).to_numpy(), np.int64)


def ratio(a: Floats | Ints, b: Floats | Ints) -> Floats:
    """A / b; NaN where b is 0 or either is NaN."""
    b = np.asarray(b, np.float64)
    return np.asarray(np.divide(a, b, out=np.full(b.shape, np.nan), where=b != 0), np.float64)


def or_null(known: npt.NDArray[np.bool_], values: Floats | Ints) -> Floats:
    """The values where they are known; NaN elsewhere."""
    return np.where(known, values, np.nan)
