"""The list of features, by family. Batch, online, documentation and explanations are derived from it.

To add a feature of an existing kind, add one definition to a family and regenerate `docs/features.md`;
CONTRIBUTING has the steps. The name, kind and windows of a definition are part of the feature-set hash
of stored models.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from retail_core.features import formulas as f
from retail_core.features.cutoff_context import CONTEXT_MEASURES, CONTEXT_PREFIX
from retail_core.features.formula_algebra import Formula
from retail_core.features.kinds import (
    Cart,
    Clock,
    Concentration,
    Context,
    Count,
    Days,
    Derived,
    Distinct,
    Feature,
    FeatureDefinition,
    FeatureFamily,
    FirstSeen,
    Gap,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    Total,
)
from retail_core.features.prediction_task import PredictionTask
from retail_core.schemas import EVENT_TYPES

_NO_CART, _NO_EVENT, _NO_ORDER = "nothing open in the cart", "no event", "no order"
_ONE_DAY, _ONE_PURCHASE, _NO_EARLIER = "under 2 active days", "under 2 purchase days", "none in the rest"
_NO_PRICE, _NO_PRICES = "none with a price", "no price of either, or 0 paid"
_MINOR, _WEEKDAY = "minor units", "the weekday of the coming 24 hours"
_TYPES = tuple((name, f"`{name}`") for name in EVENT_TYPES)

_define = FeatureDefinition
"""Short, so that one definition is one line."""


def _derived(formula: Formula, unit: str, null: str = "never") -> FeatureDefinition:
    """A derived feature; it has the formula's name and docstring."""
    return FeatureDefinition(formula.__name__, Derived(formula), None, unit, formula.__doc__ or "", null)


FEATURE_FAMILIES: tuple[FeatureFamily, ...] = (
    FeatureFamily("activity", "Number of events, by type and window.", (
        _define("event_count", Count(None), "all", "events", "Events of any type."),
        *(_define(f"{n}_count", Count(n), "all", "events", f"{quoted} events.") for n, quoted in _TYPES),
        _define("orders", Distinct("order", "purchase"), "all", "orders", "Distinct orders."),
        _define("distinct_items", Distinct("item"), "all", "items", "Distinct items."),
        _define("distinct_categories", Distinct("category"), "all", "categories", "Distinct categories."),
        _define("active_days", Days(), "days", "days", "24-hour blocks before the cut-off with an event."),
        _define("sessions", Sessions(), "all", "sessions",
                "Sessions started; a pause of 30 minutes ends one."),
        _derived(f.events_per_session, "ratio", _NO_EVENT),
    )),
    FeatureFamily("money", "Value of purchases and refunds.", (
        _define("spend", Total("purchase"), "all", _MINOR, "Value of purchases whose price is known."),
        _define("refunds", Total("refund"), "all", _MINOR, "Value of refunds whose price is known."),
        _derived(f.net_spend, _MINOR),
        _derived(f.average_order_value, _MINOR, _NO_ORDER),
    )),
    FeatureFamily("recency", "Time since the user's last event, by type.", (
        _define("hours_since_event", Since(None), None, "hours", "Since the last event.", _NO_EVENT),
        *(
            _define(f"hours_since_{n}", Since(n), None, "hours", f"Since the last {quoted}.", "no such event")
            for n, quoted in _TYPES
        ),
        _define("hours_since_first_event", FirstSeen(), None, "hours", "Since the first event.", _NO_EVENT),
    )),
    FeatureFamily("cart", "Items open in the cart at the cut-off.", (
        _define("cart_count", Cart("count"), None, "items", "Items open in the cart."),
        _define("open_cart_value", Cart("value"), None, _MINOR, "Value of the open items, as far as known."),
        _define("cart_oldest_hours", Cart("oldest"), None, "hours", "Age of the oldest open item.", _NO_CART),
        _define("cart_newest_hours", Cart("newest"), None, "hours", "Age of the newest open item.", _NO_CART),
        _derived(f.carted_not_bought, "flag"),
    )),
    FeatureFamily("intent", "Heuristics from counts and recency.", (
        _derived(f.purchase_intent, "score"),
        _derived(f.carts_per_view, "ratio", "no view"),
        _derived(f.purchases_per_session, "ratio", _NO_EVENT),
    )),
    FeatureFamily("rhythm", "Regularity of active days and purchases, and whether the next one is due.", (
        _define("mean_gap_days", Gap("mean"), None, "days", "Mean gap between active days.", _ONE_DAY),
        _define("last_gap_days", Gap("last"), None, "days",
                "Gap between the last two active days.", _ONE_DAY),
        _define("purchase_days", Days("purchase"), "days", "days", "24-hour blocks with a purchase."),
        _define("mean_purchase_gap_days", Gap("mean", "purchase"), None, "days",
                "Mean gap between purchase days.", _ONE_PURCHASE),
        _define("last_purchase_gap_days", Gap("last", "purchase"), None, "days",
                "Gap between the last two purchase days.", _ONE_PURCHASE),
        _define("purchase_gap_spread", Gap("spread", "purchase"), None, "ratio",
                "Mean squared gap of purchase days over the squared mean gap; 1 is regular.", _ONE_PURCHASE),
        _derived(f.purchase_due, "ratio", _ONE_PURCHASE),
        _derived(f.visit_due, "ratio", _ONE_DAY),
        _derived(f.purchase_day_share, "share", _NO_EVENT),
    )),
    FeatureFamily("habit", f"Active days and purchases on {_WEEKDAY}.", (
        _define("same_weekday_active_days", Days(None, True), "weeks", "days", f"Active days on {_WEEKDAY}."),
        _define("same_weekday_purchase_days", Days("purchase", True), "weeks", "days",
                f"Purchase days on {_WEEKDAY}."),
        _derived(f.weekday_active_share, "share", _NO_EVENT),
        _derived(f.weekday_purchase_share, "share", "no purchase"),
    )),
    FeatureFamily("velocity", "Recent event rate relative to the user's usual rate.", (
        _derived(f.velocity_1d, "ratio", _NO_EARLIER),
        _derived(f.velocity_3d, "ratio", _NO_EARLIER),
        _derived(f.cart_velocity_3d, "ratio", _NO_EARLIER),
        _derived(f.recent_share, "share", _NO_EVENT),
    )),
    FeatureFamily("price", "Prices viewed and added to the cart, relative to prices paid.", (
        _define("mean_price_viewed", MeanPrice("view_item"), None, _MINOR, "Mean price of views.", _NO_PRICE),
        _define("mean_price_carted", MeanPrice("add_to_cart"), None, _MINOR,
                "Mean price of carts.", _NO_PRICE),
        _define("mean_price_bought", MeanPrice("purchase"), None, _MINOR, "Mean price paid.", _NO_PRICE),
        _derived(f.viewed_price_level, "ratio", _NO_PRICES),
        _derived(f.carted_price_level, "ratio", _NO_PRICES),
        _derived(f.cart_value_level, "ratio", "no order, or 0 paid"),
    )),
    FeatureFamily("affinity", "Concentration of the events on categories.", (
        _define("category_concentration", Concentration(), None, "share",
                "Sum of the squared shares of the categories; 1 is one category.",
                "no event with a category"),
    )),
    FeatureFamily("session", "The session that contains the last event.", (
        _define("last_session_events", LastSession("events"), None, "events", "Its events."),
        _define("last_session_carts", LastSession("carts"), None, "events", "Its cart additions."),
        _define("last_session_minutes", LastSession("minutes"), None, "minutes", "Its length.", _NO_EVENT),
        _derived(f.in_session, "flag"),
    )),
    FeatureFamily("standing", "Whether the user is new or has bought before.", (
        _derived(f.new_user, "flag"),
        _derived(f.known_buyer, "flag"),
    )),
    FeatureFamily("context", "The shop at the start of the cut-off's local day, from earlier days.", tuple(
        _define(f"{CONTEXT_PREFIX}{name}", Context(name), None, *texts) for name, *texts in CONTEXT_MEASURES
    )),
    FeatureFamily("clock", "The cut-off in the shop's time zone.", (
        _define("hour", Clock("hour"), None, "0 to 23", "Hour of the cut-off."),
        _define("weekday", Clock("weekday"), None, "0 = Monday", "Weekday of the cut-off."),
        _define("weekend", Clock("weekend"), None, "flag", "The cut-off falls on a Saturday or Sunday."),
    )),
)  # fmt: skip
"""All features by family. Windows reach back from the cut-off; the other kinds use the whole look-back."""

FEATURE_DEFINITIONS: tuple[FeatureDefinition, ...] = tuple(
    definition for family in FEATURE_FAMILIES for definition in family.definitions
)


@lru_cache
def expand_definitions(task: PredictionTask) -> Mapping[str, Feature]:
    """Every feature for this task by name, in the order of the definitions."""
    features = [feature for definition in FEATURE_DEFINITIONS for feature in definition.expand(task.windows)]
    return {feature.name: feature for feature in features}
