"""Formulas over features, written once.

A formula asks an `Algebra` for other features and combines them with `+ - *`, comparisons and the
algebra's own functions. Python (online), NumPy arrays (batch) and text (documentation, hash) are
three algebras; null is NaN for floats. Every float operation has one written order, so that engines
agree to the bit. Do not negate a comparison: with null it is false everywhere, negated it is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retail_core.features.kinds import Window

Term = Any
"""An array or a `Text`: whatever the algebra at hand computes with."""

INTENT_WEIGHTS: Mapping[str, int] = {
    "add_to_cart": 10,
    "begin_checkout": 8,
    "add_to_wishlist": 4,
    "purchase": 3,
    "search": 1,
    "view_item": 1,
    "remove_from_cart": -6,
}
"""What one event of a type adds to `purchase_intent`."""

INTENT_RECENCY: Mapping[str, int] = {"1h": 8, "6h": 4, "1d": 2, "3d": 2, "7d": 1}
"""How much each window that holds the event multiplies it; windows nest, so recent events add up."""


@dataclass(frozen=True)
class Algebra:
    """What a formula may use.

    Attributes:
        get: another feature by its full name.
        windows: the windows there are, ascending; the last one is the look-back.
        div: a / b; null where b is 0 or either is null.
        where: a where the condition holds, else (also where it is null) b.
        coalesce: a, or b where a is null.
    """

    get: Callable[[str], Term]
    windows: tuple[Window, ...]
    div: Callable[[Term, Term], Term]
    where: Callable[[Term, Term, Term], Term]
    coalesce: Callable[[Term, Term], Term]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the windows."""
        return tuple(window.label for window in self.windows)

    def over(self, name: str, label: str) -> Term:
        """Another feature over the window of that label."""
        return self.get(f"{name}_{label}")

    def whole(self, name: str) -> Term:
        """Another feature over the whole look-back."""
        return self.over(name, self.labels[-1])


def texts(used: list[str], windows: tuple[Window, ...]) -> Algebra:
    """Writes the formula down; `used` receives the names of the features it asks for."""

    def note(name: str) -> Text:
        used.append(name)
        return Text(name)

    return Algebra(
        note,
        windows,
        div=lambda a, b: Text(f"({a} / {b})"),
        where=lambda condition, a, b: Text(f"where({condition}, {a}, {b})"),
        coalesce=lambda a, b: Text(f"coalesce({a}, {b})"),
    )


def compiled(
    formula: Callable[[Algebra], Term], windows: tuple[Window, ...]
) -> Callable[[Mapping[str, float]], float]:
    """The formula as one Python function of the features before it, by name; null is NaN.

    A formula called on floats would build and look up the name of every feature anew for every user.
    """
    spelt = formula(
        Algebra(
            lambda name: Text(f"of[{name!r}]"),
            windows,
            div=lambda a, b: Text(f"div({a}, {b})"),
            where=lambda condition, a, b: Text(f"({a} if {condition} else {b})"),
            coalesce=lambda a, b: Text(f"coalesce({a}, {b})"),
        )
    )
    known = {"div": _div, "coalesce": _coalesce, "inf": math.inf, "float": float}
    # What is evaluated was spelt by a formula of this package.
    function: Callable[[Mapping[str, float]], float] = eval(f"lambda of: float({spelt})", known)  # noqa: S307
    return function


def _div(a: float, b: float) -> float:
    return a / b if b else math.nan


def _coalesce(a: float, b: float) -> float:
    return b if math.isnan(a) else a


class Text:
    """A formula spelt out."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _join(self, sign: str, other: object, *, swap: bool = False) -> Text:
        left, right = (other, self) if swap else (self, other)
        return Text(f"({left} {sign} {right})")

    def __str__(self) -> str:
        return self.text

    def __add__(self, other: object) -> Text:
        return self._join("+", other)

    def __radd__(self, other: object) -> Text:
        return self._join("+", other, swap=True)

    def __sub__(self, other: object) -> Text:
        return self._join("-", other)

    def __mul__(self, other: object) -> Text:
        return self._join("*", other)

    def __rmul__(self, other: object) -> Text:
        return self._join("*", other, swap=True)

    def __lt__(self, other: object) -> Text:
        return self._join("<", other)

    def __gt__(self, other: object) -> Text:
        return self._join(">", other)

    def __ge__(self, other: object) -> Text:
        return self._join(">=", other)


def purchase_intent(o: Algebra) -> Term:
    """Recent events, weighted by type (carts most) and recency."""
    terms = [
        (weight * recency) * o.over(f"{event_type}_count", label)
        for event_type, weight in INTENT_WEIGHTS.items()
        for label, recency in INTENT_RECENCY.items()
        if label in o.labels
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def carted_not_bought(o: Algebra) -> Term:
    """1 where something was carted and nothing bought since."""
    carted, bought = o.get("hours_since_add_to_cart"), o.get("hours_since_purchase")
    return o.where(carted < o.coalesce(bought, float("inf")), 1.0, 0.0)


def net_spend(o: Algebra) -> Term:
    """Spend less refunds."""
    return o.whole("spend") - o.whole("refunds")


def average_order_value(o: Algebra) -> Term:
    """Spend per order."""
    return o.div(o.whole("spend"), o.whole("orders"))


def carts_per_view(o: Algebra) -> Term:
    """Additions to the cart per item viewed."""
    return o.div(o.whole("add_to_cart_count"), o.whole("view_item_count"))


def purchases_per_session(o: Algebra) -> Term:
    """Purchase events per session."""
    return o.div(o.whole("purchase_count"), o.whole("sessions"))


def events_per_session(o: Algebra) -> Term:
    """Events per session."""
    return o.div(o.whole("event_count"), o.whole("sessions"))


def recent_share(o: Algebra) -> Term:
    """Share of the events of the look-back that fell into the last day."""
    recent = o.over("event_count", "1d") if "1d" in o.labels else o.whole("event_count")
    return o.div(recent, o.whole("event_count"))
