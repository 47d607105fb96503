"""The kinds of feature: what a batch and an online interpreter both know how to compute.

Everything is computed over events with `as_of - look-back <= event_time < as_of`. A window of w holds
`as_of - w <= event_time < as_of`; a day is exactly 24 hours, also when clocks change.

Names and fields of the kinds are part of the hash of a feature set, which is stored with every model: a
renamed kind makes stored models incompatible.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from retail_core.features.formula_algebra import Formula
from retail_core.features.time_windows import DAY_US, SESSION_GAP_US, FeatureWindow

MAX_VALUE_MINOR = 10**13
"""Upper limit of one event's value, so that no sum leaves 64 bits."""

CART_EVENT_ORDER = {"add_to_cart": 0, "remove_from_cart": 1, "purchase": 2}
"""Events that open or close a cart, in the order in which they count at equal times."""


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
    """Distinct non-null values of a key of `EVENT_KEYS` among events of one type (None: any)."""

    key: str
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
    """Sum over the values of a key of their squared shares of the events; 1 where all are equal."""

    key: str = "category"

    def __repr__(self) -> str:
        """Without the default key, since stored feature-set hashes contain the text `Concentration()`."""
        return "Concentration()" if self.key == "category" else f"Concentration(key={self.key!r})"


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
    """The cut-off in the shop's time zone."""

    part: Literal["hour", "weekday", "weekend"]


@dataclass(frozen=True)
class Context:
    """A number about the shop on the local day of the cut-off, from complete days before it.

    See `features.batch.context_features`. It reaches back `CONTEXT_DAYS`, not the look-back.
    """

    name: str


@dataclass(frozen=True)
class Derived:
    """A formula over other features, written once for every engine."""

    formula: Formula


Windowed = Count | Total | Distinct | Days | Sessions
"""Kinds that are computed over a window."""

State = MeanPrice | Since | FirstSeen | Gap | LastSession | Concentration | Cart | Clock | Context
"""Kinds without a window: computed over the look-back, or from the cut-off alone."""

Kind = Windowed | State | Derived
WindowChoice = Literal["all", "days", "weeks", "look-back"] | None


@dataclass(frozen=True)
class FeatureDefinition:
    """One line of the list of features.

    Attributes:
        name: column name; where `over` names several windows each one's label is appended.
        kind: what is computed.
        over: `all` windows, those of 3 `days` and more or of `weeks`, only the whole `look-back`, or
            None for a kind without a window.
        unit: unit of the number.
        meaning: one line; also the text of explanations.
        null: when it is null.
    """

    name: str
    kind: Kind
    over: WindowChoice
    unit: str
    meaning: str
    null: str = "never"

    def expand(self, windows: tuple[FeatureWindow, ...]) -> tuple[Feature, ...]:
        """The features of this definition, one per window."""
        if self.over is None:
            return (Feature(self.name, self.kind, None, self),)
        lookback = windows[-1]
        if self.over == "look-back":
            return (Feature(self.name, self.kind, lookback, self),)
        shortest = {"days": 3 * DAY_US, "weeks": 7 * DAY_US}.get(self.over, 0)
        selected = (w for w in windows if w.micros >= shortest or w is lookback)
        return tuple(Feature(f"{self.name}_{w.label}", self.kind, w, self) for w in selected)


@dataclass(frozen=True)
class FeatureFamily:
    """A named group of feature definitions."""

    name: str
    meaning: str
    definitions: tuple[FeatureDefinition, ...]


@dataclass(frozen=True)
class Feature:
    """One named number about one user at one cut-off."""

    name: str
    kind: Kind
    window: FeatureWindow | None
    definition: FeatureDefinition


def coded_types(features: Iterable[Feature]) -> tuple[str, ...]:
    """Event types that these features tell apart, by their code; all others share one more code.

    Those of carts come first, in the order in which they count at equal times.
    """
    types = (getattr(feature.kind, "event_type", None) for feature in features)
    return tuple(dict.fromkeys([*CART_EVENT_ORDER, *(name for name in types if name)]))


def event_value(price_minor: int | None, quantity: int | None) -> int | None:
    """Value of an event in minor units; the quantity is 1 where unknown, null without a price.

    >>> event_value(250, 3), event_value(250, None), event_value(None, 3)
    (750, 250, None)
    """
    if price_minor is None:
        return None
    units = 1 if quantity is None else quantity
    return price_minor * min(units, MAX_VALUE_MINOR // max(price_minor, 1))
