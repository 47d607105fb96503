"""The kinds of feature there are. A kind is what both interpreters know how to compute.

Everything is computed over events with `as_of - look-back <= event_time < as_of`. A window of w
holds `as_of - w <= event_time < as_of`; a day is exactly 24 hours, whatever the clocks do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from retail_core.features.formulas import Algebra, Term

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MINUTE_US = HOUR_US // 60
SESSION_GAP_US = 30 * MINUTE_US
"""A pause of this length or longer ends a session."""

IN_SESSION_HOURS = SESSION_GAP_US / HOUR_US
"""A user whose last event is younger than this is in a session."""

MAX_VALUE_MINOR = 10**13
"""Upper limit of one event's value, so that no sum leaves 64 bits."""


CLOSING_ORDER = {"add_to_cart": 0, "remove_from_cart": 1, "purchase": 2}
"""Events that open or close a cart, in the order in which they count at equal times."""


@dataclass(frozen=True)
class Window:
    """The last `micros` microseconds before the cut-off."""

    label: str
    micros: int


@dataclass(frozen=True)
class Count:
    """Events of one type (None: of any type) in the window."""

    event_type: str | None


@dataclass(frozen=True)
class Total:
    """Sum of the value (price times quantity, minor units) of events of one type in the window."""

    event_type: str


@dataclass(frozen=True)
class Distinct:
    """Distinct non-null values of `key` among events of one type (None: any) in the window.

    An `order` is the order id of an event, or the event itself where it has none.
    """

    key: Literal["item", "category", "order"]
    event_type: str | None = None


@dataclass(frozen=True)
class Days:
    """Active days: 24-hour blocks counted back from the cut-off with an event of one type (None: any).

    With `weekday` only those a whole number of weeks before the coming 24 hours.
    """

    event_type: str | None = None
    weekday: bool = False


@dataclass(frozen=True)
class MeanPrice:
    """Mean price (one piece, minor units) of the events of one type whose price is known."""

    event_type: str


@dataclass(frozen=True)
class Sessions:
    """Sessions started in the window; a first event within the look-back always starts one."""

    gap_us: int = SESSION_GAP_US


@dataclass(frozen=True)
class Since:
    """Hours from the last event of one type (None: of any) to the cut-off."""

    event_type: str | None


@dataclass(frozen=True)
class FirstSeen:
    """Hours from the first event within the look-back to the cut-off."""


@dataclass(frozen=True)
class Gap:
    """Distances in days between neighbouring active days (see `Days`).

    Their mean, the last one, or their `spread`: the mean of the squares over the square of the mean,
    1 where all are equal.
    """

    stat: Literal["mean", "last", "spread"]
    event_type: str | None = None


@dataclass(frozen=True)
class LastSession:
    """The session of the last event: its events, its additions to the cart, its minutes up to that event."""

    stat: Literal["events", "carts", "minutes"]


@dataclass(frozen=True)
class Concentration:
    """Sum over categories of the squared share of the events that name one; 1 where all name the same."""


@dataclass(frozen=True)
class Cart:
    """The open cart at the cut-off.

    An `add_to_cart` is open unless, before the cut-off, a later event closes it: an add (which
    supersedes), a removal or a purchase of the same item, or a purchase that names no item. At equal
    times adds come before removals before purchases, then event ids decide.
    """

    stat: Literal["count", "value", "oldest", "newest"]


@dataclass(frozen=True)
class Clock:
    """The cut-off on the shop's clock."""

    part: Literal["hour", "weekday", "weekend"]


@dataclass(frozen=True)
class Context:
    """Something about the shop on the local day of the cut-off, from whole days before it.

    See `features.batch.context`. Unlike all else it reaches back `CONTEXT_DAYS`, not the look-back.
    """

    name: str


@dataclass(frozen=True)
class Derived:
    """A formula over other features, written once for every engine."""

    formula: Callable[[Algebra], Term]


Additive = Count | Total | Distinct | Days | Sessions
"""Kinds whose values over disjoint stretches of time add up."""

State = MeanPrice | Since | FirstSeen | Gap | LastSession | Concentration | Cart | Clock | Context
Kind = Additive | State | Derived
Over = Literal["all", "days", "weeks", "look-back"] | None


@dataclass(frozen=True)
class Entry:
    """One line of the list of features.

    Attributes:
        name: column name; where `over` names several windows each one's label is appended.
        kind: what is computed.
        over: `all` windows, those of 3 `days` and more or of `weeks`, only the whole `look-back`, or
            None for a kind without a window.
        unit: what the number counts.
        meaning: one line.
        null: when it is null.
    """

    name: str
    kind: Kind
    over: Over
    unit: str
    meaning: str
    null: str = "never"

    def expand(self, windows: tuple[Window, ...]) -> tuple[Feature, ...]:
        """The features of this entry, one per window."""
        if self.over is None:
            return (Feature(self.name, self.kind, None, self),)
        if self.over == "look-back":
            return (Feature(self.name, self.kind, windows[-1], self),)
        least = {"days": 3 * DAY_US, "weeks": 7 * DAY_US}.get(self.over, 0)
        chosen = (w for w in windows if w.micros >= least or w is windows[-1])
        return tuple(Feature(f"{self.name}_{w.label}", self.kind, w, self) for w in chosen)


@dataclass(frozen=True)
class Family:
    """A named set of entries.

    Attributes:
        name: what it is called.
        meaning: one line.
        entries: its part of the list.
    """

    name: str
    meaning: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Feature:
    """One named number about one user at one cut-off."""

    name: str
    kind: Kind
    window: Window | None
    entry: Entry


def windows(lookback_days: int) -> tuple[Window, ...]:
    """The standard windows shorter than the look-back, and the look-back itself, ascending.

    >>> [window.label for window in windows(3)]
    ['1h', '6h', '1d', '3d']
    """
    standard = [Window(f"{h}h", h * HOUR_US) for h in (1, 6)]
    standard += [Window(f"{d}d", d * DAY_US) for d in (1, 3, 7, 28, 91)]
    whole = Window(f"{lookback_days}d", lookback_days * DAY_US)
    return (*(window for window in standard if window.micros < whole.micros), whole)


def event_value(price_minor: int | None, quantity: int | None) -> int | None:
    """Value of an event in minor units; the quantity is 1 where unknown, null without a price.

    >>> event_value(250, 3), event_value(250, None), event_value(None, 3)
    (750, 250, None)
    """
    if price_minor is None:
        return None
    pieces = 1 if quantity is None else quantity
    return price_minor * min(pieces, MAX_VALUE_MINOR // max(price_minor, 1))
