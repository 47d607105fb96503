"""The one list of features, by family, and sets of them that travel with a model.

To add a feature of an existing kind, add one entry to a family: the batch and the online
interpreter and `docs/features.md` follow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from retail_core.errors import InputError
from retail_core.features import formulas as f
from retail_core.features import signals as s
from retail_core.features.kinds import (
    Cart,
    Clock,
    Concentration,
    Context,
    Count,
    Days,
    Derived,
    Distinct,
    Entry,
    Family,
    Feature,
    FirstSeen,
    Gap,
    LastSession,
    MeanPrice,
    Sessions,
    Since,
    Total,
)
from retail_core.features.question import Attribute, Question
from retail_core.features.shop_measures import CONTEXT_PREFIX, MEASURES
from retail_core.features.specification import required, specification
from retail_core.schemas import EVENT_TYPES

__all__ = ["FAMILIES", "FEATURES", "Attribute", "FeatureSet", "Question", "default_feature_set", "expand"]

_NO_CART, _NO_EVENT, _NO_ORDER = "nothing open in the cart", "no event", "no order"
_TWO, _BUYS, _NO_REST = "under 2 active days", "under 2 purchase days", "none in the rest"
_NO_PRICE, _NO_PRICES = "none with a price", "no price of either, or 0 paid"
_MINOR, _WEEKDAY = "minor units", "the weekday of the coming 24 hours"
_TYPES = tuple((name, f"`{name}`") for name in EVENT_TYPES)


def _derived(formula: Callable[[f.Algebra], f.Term], unit: str, null: str = "never") -> Entry:
    """A formula's name and docstring are the feature's."""
    return Entry(formula.__name__, Derived(formula), None, unit, formula.__doc__ or "", null)


FAMILIES: tuple[Family, ...] = (
    Family("activity", "How much the user did, by type and window.", (
        Entry("event_count", Count(None), "all", "events", "Events of any type."),
        *(Entry(f"{n}_count", Count(n), "all", "events", f"{quoted} events.") for n, quoted in _TYPES),
        Entry("orders", Distinct("order", "purchase"), "all", "orders", "Distinct orders."),
        Entry("distinct_items", Distinct("item"), "all", "items", "Distinct items."),
        Entry("distinct_categories", Distinct("category"), "all", "categories", "Distinct categories."),
        Entry("active_days", Days(), "days", "days", "24-hour blocks before the cut-off with an event."),
        Entry("sessions", Sessions(), "all", "sessions", "Sessions started; a pause of 30 minutes ends one."),
        _derived(f.events_per_session, "ratio", _NO_EVENT),
    )),
    Family("money", "What was spent and returned.", (
        Entry("spend", Total("purchase"), "all", _MINOR, "Value of purchases whose price is known."),
        Entry("refunds", Total("refund"), "all", _MINOR, "Value of refunds whose price is known."),
        _derived(f.net_spend, _MINOR),
        _derived(f.average_order_value, _MINOR, _NO_ORDER),
    )),
    Family("recency", "How long ago the user last did what.", (
        Entry("hours_since_event", Since(None), None, "hours", "Since the last event.", _NO_EVENT),
        *(
            Entry(f"hours_since_{n}", Since(n), None, "hours", f"Since the last {quoted}.", "no such event")
            for n, quoted in _TYPES
        ),
        Entry("hours_since_first_event", FirstSeen(), None, "hours", "Since the first event.", _NO_EVENT),
    )),
    Family("cart", "What lies open in the cart.", (
        Entry("cart_count", Cart("count"), None, "items", "Items open in the cart."),
        Entry("open_cart_value", Cart("value"), None, _MINOR, "Value of the open items, as far as known."),
        Entry("cart_oldest_hours", Cart("oldest"), None, "hours", "Age of the oldest open item.", _NO_CART),
        Entry("cart_newest_hours", Cart("newest"), None, "hours", "Age of the newest open item.", _NO_CART),
        _derived(f.carted_not_bought, "flag"),
    )),
    Family("intent", "Rules of thumb over the above.", (
        _derived(f.purchase_intent, "score"),
        _derived(f.carts_per_view, "ratio", "no view"),
        _derived(f.purchases_per_session, "ratio", _NO_EVENT),
    )),
    Family("rhythm", "How regularly the user comes and buys, and whether the next time is due.", (
        Entry("mean_gap_days", Gap("mean"), None, "days", "Mean gap between active days.", _TWO),
        Entry("last_gap_days", Gap("last"), None, "days", "Gap between the last two active days.", _TWO),
        Entry("purchase_days", Days("purchase"), "days", "days", "Purchase days: those with a purchase."),
        Entry("mean_purchase_gap_days", Gap("mean", "purchase"), None, "days", "Mean gap of them.", _BUYS),
        Entry("last_purchase_gap_days", Gap("last", "purchase"), None, "days", "Gap of the last two.", _BUYS),
        Entry("purchase_gap_spread", Gap("spread", "purchase"), None, "ratio",
              "Mean of their squares over the square of their mean; 1 is regular.", _BUYS),
        _derived(s.purchase_due, "ratio", _BUYS),
        _derived(s.visit_due, "ratio", _TWO),
        _derived(s.purchase_day_share, "share", _NO_EVENT),
    )),
    Family("habit", f"How often the user came and bought on {_WEEKDAY}.", (
        Entry("same_weekday_active_days", Days(None, True), "weeks", "days", f"Active days on {_WEEKDAY}."),
        Entry("same_weekday_purchase_days", Days("purchase", True), "weeks", "days", "Purchase days on it."),
        _derived(s.weekday_active_share, "share", _NO_EVENT),
        _derived(s.weekday_purchase_share, "share", "no purchase"),
    )),
    Family("velocity", "The last days against the user's usual rate.", (
        _derived(s.velocity_1d, "ratio", _NO_REST),
        _derived(s.velocity_3d, "ratio", _NO_REST),
        _derived(s.cart_velocity_3d, "ratio", _NO_REST),
        _derived(f.recent_share, "share", _NO_EVENT),
    )),
    Family("price", "Prices looked at against prices paid.", (
        Entry("mean_price_viewed", MeanPrice("view_item"), None, _MINOR, "Mean price of views.", _NO_PRICE),
        Entry("mean_price_carted", MeanPrice("add_to_cart"), None, _MINOR, "Mean price of carts.", _NO_PRICE),
        Entry("mean_price_bought", MeanPrice("purchase"), None, _MINOR, "Mean price paid.", _NO_PRICE),
        _derived(s.viewed_price_level, "ratio", _NO_PRICES),
        _derived(s.carted_price_level, "ratio", _NO_PRICES),
        _derived(s.cart_value_level, "ratio", "no order, or 0 paid"),
    )),
    Family("affinity", "How the events spread over categories.", (
        Entry("category_concentration", Concentration(), None, "share",
              "Sum of the squared shares of the categories; 1 is one category.", "no event with a category"),
    )),
    Family("session", "The session of the last event.", (
        Entry("last_session_events", LastSession("events"), None, "events", "Its events."),
        Entry("last_session_carts", LastSession("carts"), None, "events", "Its additions to the cart."),
        Entry("last_session_minutes", LastSession("minutes"), None, "minutes", "Its length.", _NO_EVENT),
        _derived(s.in_session, "flag"),
    )),
    Family("standing", "New or known.", (_derived(s.new_user, "flag"), _derived(s.known_buyer, "flag"))),
    Family("context", "The shop when the local day of the cut-off begins, from whole days before it.", tuple(
        Entry(f"{CONTEXT_PREFIX}{name}", Context(name), None, *described) for name, *described in MEASURES
    )),
    Family("clock", "When the cut-off is, on the shop's clock.", (
        Entry("hour", Clock("hour"), None, "0 to 23", "Hour of the cut-off."),
        Entry("weekday", Clock("weekday"), None, "0 = Monday", "Weekday of the cut-off."),
        Entry("weekend", Clock("weekend"), None, "flag", "The cut-off falls on a Saturday or Sunday."),
    )),
)  # fmt: skip
"""The one list, by named set. Windows reach back from the cut-off; other kinds see the whole look-back."""

FEATURES: tuple[Entry, ...] = tuple(entry for family in FAMILIES for entry in family.entries)


@lru_cache
def expand(question: Question) -> Mapping[str, Feature]:
    """Every feature of the list for this question, by name, in the order of the list."""
    features = [feature for entry in FEATURES for feature in entry.expand(question.windows)]
    return {feature.name: feature for feature in features}


@dataclass(frozen=True)
class FeatureSet:
    """The features of one model: what is asked, which of the list, which attributes.

    Attributes:
        question: the question they answer.
        names: features, as `expand(question)` names them.
        attributes: user attributes that follow them.
    """

    question: Question
    names: tuple[str, ...]
    attributes: tuple[Attribute, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, then of the attributes' columns; the order of a model's input."""
        return (*self.names, *(column for attribute in self.attributes for column in attribute.columns))

    @property
    def hash(self) -> str:
        """Hash of the definitions used, the question and the columns; 32 hex characters."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        known = expand(self.question)
        used = [known.get(name) for name in required(self.question, known, self.names)]
        content = {
            **self.to_dict(),
            "definitions": [specification(self.question, feature) for feature in used],
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def plan(self) -> tuple[Feature, ...]:
        """What to compute: the features and all that their formulas use, each before its users.

        Raises:
            InputError: a name is not in the list of features (the set may come from another version).
        """
        known = expand(self.question)
        if unknown := [name for name in self.names if name not in known]:
            raise InputError(
                f"There is no feature {unknown[0]!r} for a look-back of {self.question.lookback_days} days.",
                remedy="take names from docs/features.md, or train a model with this version.",
            )
        return tuple(known[name] for name in required(self.question, known, self.names))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "question": asdict(self.question),
            "names": list(self.names),
            "attributes": [{**asdict(a), "categories": list(a.categories)} for a in self.attributes],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> FeatureSet:
        """Back from `to_dict`; compare the hash before use, the list may have changed since."""
        attributes = (Attribute(**{**a, "categories": tuple(a["categories"])}) for a in content["attributes"])
        return cls(Question(**content["question"]), tuple(content["names"]), tuple(attributes))

    def select(self, columns: Iterable[str]) -> FeatureSet:
        """The set with only these columns, in this set's order.

        Raises:
            InputError: a column is not in the set.
        """
        wanted = set(columns)
        if unknown := sorted(wanted - set(self.columns)):
            raise InputError(
                f"There is no feature column {unknown[0]!r} in this set.",
                remedy="name columns as docs/features.md lists them.",
            )
        attributes = (_narrow(attribute, wanted) for attribute in self.attributes)
        names = tuple(name for name in self.names if name in wanted)
        return FeatureSet(
            self.question, names, tuple(a for a in attributes if a.columns and wanted & {*a.columns})
        )


def _narrow(attribute: Attribute, wanted: set[str]) -> Attribute:
    kept = (c for c in attribute.categories if f"attr_{attribute.name}={c}" in wanted)
    return replace(attribute, categories=tuple(kept))


def default_feature_set(question: Question, attributes: Iterable[Attribute] = ()) -> FeatureSet:
    """Every feature of the list and the given attributes."""
    return FeatureSet(question, tuple(expand(question)), tuple(attributes))
