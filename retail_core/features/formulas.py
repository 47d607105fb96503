"""Formulas: features computed from other features, written once for every interpreter.

The name of a public function is the feature's name, its docstring the feature's meaning. Do not negate a
comparison: with null it is false everywhere, negated it is true everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from retail_core.features.formula_algebra import FormulaAlgebra, Term
from retail_core.features.time_windows import DAY_US, IN_SESSION_HOURS

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

_NEW_USER_HOURS = 24.0


def purchase_intent(algebra: FormulaAlgebra) -> Term:
    """Recent events, weighted by type (carts most) and recency."""
    terms = [
        (weight * recency) * algebra.over(f"{event_type}_count", label)
        for event_type, weight in INTENT_WEIGHTS.items()
        for label, recency in INTENT_RECENCY.items()
        if label in algebra.labels
    ]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def carted_not_bought(algebra: FormulaAlgebra) -> Term:
    """1 where something was carted and nothing bought since."""
    carted, bought = algebra.get("hours_since_add_to_cart"), algebra.get("hours_since_purchase")
    return algebra.where(carted < algebra.coalesce(bought, float("inf")), 1.0, 0.0)


def net_spend(algebra: FormulaAlgebra) -> Term:
    """Spend less refunds."""
    return algebra.over_lookback("spend") - algebra.over_lookback("refunds")


def average_order_value(algebra: FormulaAlgebra) -> Term:
    """Spend per order."""
    return algebra.div(algebra.over_lookback("spend"), algebra.over_lookback("orders"))


def carts_per_view(algebra: FormulaAlgebra) -> Term:
    """Additions to the cart per item viewed."""
    return algebra.div(algebra.over_lookback("add_to_cart_count"), algebra.over_lookback("view_item_count"))


def purchases_per_session(algebra: FormulaAlgebra) -> Term:
    """Purchase events per session."""
    return algebra.div(algebra.over_lookback("purchase_count"), algebra.over_lookback("sessions"))


def events_per_session(algebra: FormulaAlgebra) -> Term:
    """Events per session."""
    return algebra.div(algebra.over_lookback("event_count"), algebra.over_lookback("sessions"))


def recent_share(algebra: FormulaAlgebra) -> Term:
    """Share of the events of the look-back that fell into the last day."""
    recent = (
        algebra.over("event_count", "1d") if "1d" in algebra.labels else algebra.over_lookback("event_count")
    )
    return algebra.div(recent, algebra.over_lookback("event_count"))


def _velocity(algebra: FormulaAlgebra, name: str, label: str) -> Term:
    """Events per day in the window over events per day in the rest of the look-back."""
    # Where the look-back is no longer than the window, nothing of it remains, and the ratio is null.
    label = label if label in algebra.labels else algebra.labels[-1]
    micros = {window.label: window.micros for window in algebra.windows}
    days, lookback_days = micros[label] // DAY_US, micros[algebra.labels[-1]] // DAY_US
    recent = algebra.over(name, label)
    return algebra.div(
        recent * float(lookback_days - days), (algebra.over_lookback(name) - recent) * float(days)
    )


def velocity_1d(algebra: FormulaAlgebra) -> Term:
    """Events in the last day against the daily rate in the rest of the look-back."""
    return _velocity(algebra, "event_count", "1d")


def velocity_3d(algebra: FormulaAlgebra) -> Term:
    """Events per day in the last 3 days against the rate in the rest of the look-back."""
    return _velocity(algebra, "event_count", "3d")


def cart_velocity_3d(algebra: FormulaAlgebra) -> Term:
    """Additions to the cart per day in the last 3 days against the rate in the rest of the look-back."""
    return _velocity(algebra, "add_to_cart_count", "3d")


def purchase_due(algebra: FormulaAlgebra) -> Term:
    """Time since the last purchase over the user's mean gap between purchase days; above 1 is overdue."""
    return algebra.div(algebra.get("hours_since_purchase"), 24.0 * algebra.get("mean_purchase_gap_days"))


def visit_due(algebra: FormulaAlgebra) -> Term:
    """Time since the last event over the user's mean gap between active days."""
    return algebra.div(algebra.get("hours_since_event"), 24.0 * algebra.get("mean_gap_days"))


def purchase_day_share(algebra: FormulaAlgebra) -> Term:
    """Share of the active days with a purchase."""
    return algebra.div(algebra.over_lookback("purchase_days"), algebra.over_lookback("active_days"))


def weekday_active_share(algebra: FormulaAlgebra) -> Term:
    """Share of the active days that fell on the weekday of the coming 24 hours."""
    return algebra.div(
        algebra.over_lookback("same_weekday_active_days"), algebra.over_lookback("active_days")
    )


def weekday_purchase_share(algebra: FormulaAlgebra) -> Term:
    """Share of the purchase days that fell on the weekday of the coming 24 hours."""
    return algebra.div(
        algebra.over_lookback("same_weekday_purchase_days"), algebra.over_lookback("purchase_days")
    )


def viewed_price_level(algebra: FormulaAlgebra) -> Term:
    """Mean price viewed over mean price bought."""
    return algebra.div(algebra.get("mean_price_viewed"), algebra.get("mean_price_bought"))


def carted_price_level(algebra: FormulaAlgebra) -> Term:
    """Mean price carted over mean price bought."""
    return algebra.div(algebra.get("mean_price_carted"), algebra.get("mean_price_bought"))


def cart_value_level(algebra: FormulaAlgebra) -> Term:
    """Value of the open cart over the average order value."""
    return algebra.div(algebra.get("open_cart_value"), algebra.get("average_order_value"))


def in_session(algebra: FormulaAlgebra) -> Term:
    """1 where the last event is under 30 minutes old."""
    return algebra.where(algebra.get("hours_since_event") < IN_SESSION_HOURS, 1.0, 0.0)


def new_user(algebra: FormulaAlgebra) -> Term:
    """1 where the first event within the look-back is under 24 hours old."""
    return algebra.where(algebra.get("hours_since_first_event") < _NEW_USER_HOURS, 1.0, 0.0)


def known_buyer(algebra: FormulaAlgebra) -> Term:
    """1 where the user has bought within the look-back."""
    return algebra.where(algebra.over_lookback("purchase_count") > 0.0, 1.0, 0.0)
