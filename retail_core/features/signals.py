"""Formulas that set what a user does now against what is usual for the user. See `formulas` for the rules."""

from __future__ import annotations

from retail_core.features.formulas import Algebra, Term
from retail_core.features.kinds import DAY_US, IN_SESSION_HOURS

_NEW_USER_HOURS = 24.0


def _velocity(o: Algebra, name: str, label: str) -> Term:
    """Events per day in the window over events per day in the rest of the look-back."""
    # Where the look-back is no longer than the window there is no rest, and the ratio is null.
    label = label if label in o.labels else o.labels[-1]
    micros = {window.label: window.micros for window in o.windows}
    days, whole = micros[label] // DAY_US, micros[o.labels[-1]] // DAY_US
    recent = o.over(name, label)
    return o.div(recent * float(whole - days), (o.whole(name) - recent) * float(days))


def velocity_1d(o: Algebra) -> Term:
    """Events in the last day against the daily rate in the rest of the look-back."""
    return _velocity(o, "event_count", "1d")


def velocity_3d(o: Algebra) -> Term:
    """Events per day in the last 3 days against the rate in the rest of the look-back."""
    return _velocity(o, "event_count", "3d")


def cart_velocity_3d(o: Algebra) -> Term:
    """Additions to the cart per day in the last 3 days against the rate in the rest of the look-back."""
    return _velocity(o, "add_to_cart_count", "3d")


def purchase_due(o: Algebra) -> Term:
    """Time since the last purchase over the user's mean gap between purchase days; above 1 is overdue."""
    return o.div(o.get("hours_since_purchase"), 24.0 * o.get("mean_purchase_gap_days"))


def visit_due(o: Algebra) -> Term:
    """Time since the last event over the user's mean gap between active days."""
    return o.div(o.get("hours_since_event"), 24.0 * o.get("mean_gap_days"))


def purchase_day_share(o: Algebra) -> Term:
    """Share of the active days with a purchase."""
    return o.div(o.whole("purchase_days"), o.whole("active_days"))


def weekday_active_share(o: Algebra) -> Term:
    """Share of the active days that fell on the weekday of the coming 24 hours."""
    return o.div(o.whole("same_weekday_active_days"), o.whole("active_days"))


def weekday_purchase_share(o: Algebra) -> Term:
    """Share of the purchase days that fell on the weekday of the coming 24 hours."""
    return o.div(o.whole("same_weekday_purchase_days"), o.whole("purchase_days"))


def viewed_price_level(o: Algebra) -> Term:
    """Mean price viewed over mean price bought."""
    return o.div(o.get("mean_price_viewed"), o.get("mean_price_bought"))


def carted_price_level(o: Algebra) -> Term:
    """Mean price carted over mean price bought."""
    return o.div(o.get("mean_price_carted"), o.get("mean_price_bought"))


def cart_value_level(o: Algebra) -> Term:
    """Value of the open cart over the average order value."""
    return o.div(o.get("open_cart_value"), o.get("average_order_value"))


def in_session(o: Algebra) -> Term:
    """1 where the last event is under 30 minutes old."""
    return o.where(o.get("hours_since_event") < IN_SESSION_HOURS, 1.0, 0.0)


def new_user(o: Algebra) -> Term:
    """1 where the first event within the look-back is under 24 hours old."""
    return o.where(o.get("hours_since_first_event") < _NEW_USER_HOURS, 1.0, 0.0)


def known_buyer(o: Algebra) -> Term:
    """1 where the user has bought within the look-back."""
    return o.where(o.whole("purchase_count") > 0.0, 1.0, 0.0)
