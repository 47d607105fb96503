"""The one list of features, and sets of them that travel with a model.

To add a feature of an existing kind, add one entry to `FEATURES`: the batch and the online
interpreter and `docs/features.md` follow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

from retail_core.errors import InputError
from retail_core.features import formulas as f
from retail_core.features.kinds import (
    Cart,
    Clock,
    Count,
    Derived,
    Distinct,
    Entry,
    Feature,
    FirstSeen,
    Gap,
    Sessions,
    Since,
    Total,
)
from retail_core.features.question import Attribute, Question
from retail_core.schemas import EVENT_TYPES

__all__ = ["FEATURES", "Attribute", "FeatureSet", "Question", "default_feature_set", "expand"]

_NO_CART, _NO_EVENT = "nothing open in the cart", "no event"


def _derived(formula: Callable[[f.Algebra], f.Term], unit: str, null: str = "never") -> Entry:
    """A formula's name and docstring are the feature's."""
    return Entry(formula.__name__, Derived(formula), None, unit, formula.__doc__ or "", null)


FEATURES: tuple[Entry, ...] = (
    Entry("event_count", Count(None), "all", "events", "Events of any type."),
    *(
        Entry(f"{name}_count", Count(name), "all", "events", f"`{name}` events.")
        for name in EVENT_TYPES
    ),
    Entry("spend", Total("purchase"), "all", "minor units", "Value of purchases whose price is known."),
    Entry("refunds", Total("refund"), "all", "minor units", "Value of refunds whose price is known."),
    Entry("orders", Distinct("order", "purchase"), "all", "orders", "Distinct orders."),
    Entry("distinct_items", Distinct("item"), "all", "items", "Distinct items touched in any way."),
    Entry("distinct_categories", Distinct("category"), "all", "categories", "Distinct categories touched."),
    Entry("active_days", Distinct("day"), "days", "days", "24-hour blocks before the cut-off with an event."),
    Entry("sessions", Sessions(), "all", "sessions", "Sessions started; a pause of 30 minutes ends one."),
    Entry("hours_since_event", Since(None), None, "hours", "Since the last event of any type.", _NO_EVENT),
    *(
        Entry(f"hours_since_{name}", Since(name), None, "hours", f"Since the last `{name}`.", "no such event")
        for name in EVENT_TYPES
    ),
    Entry("hours_since_first_event", FirstSeen(), None, "hours", "Since the first event.", _NO_EVENT),
    Entry("mean_gap_days", Gap("mean"), None, "days", "Mean gap between active days.", "under 2 active days"),
    Entry("last_gap_days", Gap("last"), None, "days", "Gap between the last two active days.", "as above"),
    Entry("cart_count", Cart("count"), None, "items", "Items open in the cart."),
    Entry("open_cart_value", Cart("value"), None, "minor units", "Value of the open items, as far as known."),
    Entry("cart_oldest_hours", Cart("oldest"), None, "hours", "Age of the oldest open item.", _NO_CART),
    Entry("cart_newest_hours", Cart("newest"), None, "hours", "Age of the newest open item.", _NO_CART),
    _derived(f.carted_not_bought, "flag"),
    _derived(f.purchase_intent, "score"),
    _derived(f.net_spend, "minor units"),
    _derived(f.average_order_value, "minor units", "no order"),
    _derived(f.carts_per_view, "ratio", "no view"),
    _derived(f.purchases_per_session, "ratio", _NO_EVENT),
    _derived(f.events_per_session, "ratio", _NO_EVENT),
    _derived(f.recent_share, "share", _NO_EVENT),
    Entry("hour", Clock("hour"), None, "0 to 23", "Hour of the cut-off on the shop's clock."),
    Entry("weekday", Clock("weekday"), None, "0 = Monday", "Weekday of the cut-off on the shop's clock."),
    Entry("weekend", Clock("weekend"), None, "flag", "The cut-off falls on a Saturday or Sunday there."),
)  # fmt: skip
"""The one list. Windows reach back from the cut-off; kinds without one see the whole look-back."""


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
        used = [known.get(name) for name in required(self.question, self.names)]
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
        return tuple(known[name] for name in required(self.question, self.names))

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
        attributes = (Attribute(a["name"], a["kind"], tuple(a["categories"])) for a in content["attributes"])
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
    return Attribute(attribute.name, attribute.kind, tuple(kept))


def default_feature_set(question: Question, attributes: Iterable[Attribute] = ()) -> FeatureSet:
    """Every feature of the list and the given attributes."""
    return FeatureSet(question, tuple(expand(question)), tuple(attributes))


def used_by(question: Question, feature: Feature) -> tuple[str, ...]:
    """Names of the features a derived one uses; none for the other kinds."""
    return _trace(question, feature)[1]


def specification(question: Question, feature: Feature | None) -> str:
    """One line that says exactly what is computed; two features with the same line are the same."""
    if feature is None:
        return "unknown"
    if isinstance(feature.kind, Derived):
        return f"{feature.name} = {_trace(question, feature)[0]}"
    return f"{feature.name} = {feature.kind!r} over {feature.window.label if feature.window else 'look-back'}"


def required(question: Question, names: Iterable[str]) -> tuple[str, ...]:
    """`names` and everything their formulas use, each once, before those that use it."""
    known = expand(question)
    found: dict[str, None] = {}

    def visit(name: str) -> None:
        if name in known:
            for other in used_by(question, known[name]):
                visit(other)
        found.setdefault(name)

    for name in names:
        visit(name)
    return tuple(found)


@lru_cache(maxsize=4096)
def _trace(question: Question, feature: Feature) -> tuple[str, tuple[str, ...]]:
    if not isinstance(feature.kind, Derived):
        return "", ()
    used: list[str] = []
    text = str(feature.kind.formula(f.texts(used, question.windows)))
    return text, tuple(dict.fromkeys(used))
