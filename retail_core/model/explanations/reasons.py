"""The few things that push one user's probability up or down most, in plain words with units.

Exact Shapley values (`explain.contributions`) are added up over the features that tell of one thing, since
Shapley values add up: all windows of a count and the time since it, all that is known of the cart. What is
told of a thing is chosen by the largest value among its features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from retail_core.arrays import FloatArray
from retail_core.features.definitions import expand_definitions
from retail_core.features.feature_set import FeatureSet
from retail_core.features.kinds import Cart, Count, Feature, Gap, Since
from retail_core.features.time_windows import FeatureWindow
from retail_core.model.explanations import wording
from retail_core.model.explanations.contributions import shapley_values
from retail_core.model.feature_matrix import MISSING, FeatureInput

if TYPE_CHECKING:
    from retail_core.model.estimator import CalibratedRanker

MAX_REASONS = 3
RAISES: Literal["raises"] = "raises"
LOWERS: Literal["lowers"] = "lowers"

_CART = ("cart", "")
_TOPIC_BY_FORMULA: Mapping[str, tuple[str, str]] = {
    "orders": ("events", "purchase"),
    "purchase_days": ("events", "purchase"),
    "known_buyer": ("events", "purchase"),
    "velocity_1d": ("events", ""),
    "velocity_3d": ("events", ""),
    "recent_share": ("events", ""),
    "in_session": ("events", ""),
    "cart_velocity_3d": _CART,
    "carted_not_bought": _CART,
    "cart_value_level": _CART,
    "purchase_due": ("rhythm", "purchase"),
    "visit_due": ("rhythm", ""),
}
"""Formulas that say again, in another way, what their topic says already."""

Topic = tuple[str, str]
"""What is told once: how it is told, and of what; `("events", "view_item")`."""


@dataclass(frozen=True)
class PredictionReason:
    """One thing that moves a probability away from the average user's.

    Attributes:
        text: like "3 items in the cart for 5 h".
        effect: whether it raises or lowers the probability.
        share: of all that moves this probability, between 0 and 1.
    """

    text: str
    effect: Literal["raises", "lowers"]
    share: float


def explain_rows(
    model: CalibratedRanker,
    feature_set: FeatureSet,
    features: FeatureInput,
    policies: Sequence[str] | None = None,
    most: int = MAX_REASONS,
) -> list[tuple[PredictionReason, ...]]:
    """For each row what moves its probability most, largest first; at most `most` reasons a row.

    Args:
        model: whose answer is explained.
        feature_set: names the columns of `features`.
        features: shape (rows, features); null is NaN or `MISSING`.
        policies: the cut-off policy each row is answered by; None where all are of the primary one.
        most: reasons a row; fewer where fewer things move it.

    Raises:
        InputError: the model has no ranker for a policy.
    """
    values = np.asarray(features, dtype=np.float64)
    answered = np.array([model.primary] * len(values) if policies is None else policies, dtype=object)
    pushes = np.zeros(values.shape)
    for policy in dict.fromkeys(answered):
        pushes[answered == policy] = shapley_values(model, values[answered == policy], policy)
    return [_row_reasons(feature_set, row, push, most) for row, push in zip(values, pushes, strict=True)]


def format_reasons(found: Iterable[PredictionReason]) -> str:
    """Reasons in one cell of a table.

    >>> as_text([Reason("2 items in the cart", "raises", 0.5), Reason("no purchase", "lowers", 0.2)])
    'raises: 2 items in the cart; lowers: no purchase'
    """
    return "; ".join(f"{reason.effect}: {reason.text}" for reason in found)


def _row_reasons(
    feature_set: FeatureSet, values: FloatArray, push: FloatArray, most: int
) -> tuple[PredictionReason, ...]:
    topics = _topics(feature_set)
    nets = np.array([push[list(places)].sum() for places in topics.values()])
    total = float(np.abs(nets).sum())
    known = {
        name: None if np.isnan(value) or value == MISSING else float(value)
        for name, value in zip(feature_set.columns, values, strict=True)
    }
    row = wording.FeatureValues(feature_set.task, known)
    found: list[PredictionReason] = []
    for place in np.argsort(-np.abs(nets), kind="stable")[:most]:
        net = float(nets[place])
        if net == 0:
            break
        topic, places = list(topics.items())[place]
        agreeing = sorted(places, key=lambda one: -push[one] * np.sign(net))
        text = _text(topic, row, [feature_set.columns[one] for one in agreeing])
        found.append(PredictionReason(text, RAISES if net > 0 else LOWERS, abs(net) / total))
    return tuple(found)


def _text(topic: Topic, row: wording.FeatureValues, columns: Sequence[str]) -> str:
    """One sentence; `columns` of the topic, the one that pushes most first."""
    how, what = topic
    told = None
    match how:
        case "events":
            told = wording.events(row, what or None, _window(row, columns))
        case "cart":
            told = _cart_text(row, columns)
        case "rhythm":
            told = wording.rhythm(row, what or None)
        case "attribute":
            told = wording.attribute(what, row)
    return told or wording.generic(expand_definitions(row.task)[columns[0]], row.get(columns[0]))


def _cart_text(row: wording.FeatureValues, columns: Sequence[str]) -> str | None:
    """What lies in it; where that is nothing, and additions push most, how often something was put there."""
    kind = expand_definitions(row.task)[columns[0]].kind
    if row.get("cart_count") or not isinstance(kind, Count | Since):
        return wording.cart(row)
    return wording.events(row, "add_to_cart", _window(row, columns))


def _window(row: wording.FeatureValues, columns: Sequence[str]) -> FeatureWindow:
    """Of the counts the window that pushes most; the look-back where it is no count that does."""
    known = expand_definitions(row.task)
    windows = (known[name].window for name in columns if isinstance(known[name].kind, Count))
    return next((window for window in windows if window), row.lookback_window)


@lru_cache(maxsize=4)
def _topics(feature_set: FeatureSet) -> Mapping[Topic, tuple[int, ...]]:
    """Columns by topic, in the order of the columns."""
    known = expand_definitions(feature_set.task)
    topics: dict[Topic, list[int]] = {}
    for place, name in enumerate(feature_set.columns):
        topics.setdefault(_topic(name, known.get(name)), []).append(place)
    return {topic: tuple(places) for topic, places in topics.items()}


def _topic(name: str, feature: Feature | None) -> Topic:
    if feature is None:
        return "attribute", name.removeprefix("attr_").split("=")[0]
    match feature.kind:
        case Cart() | Count("add_to_cart") | Since("add_to_cart"):
            return _CART
        case Count(event_type) | Since(event_type):
            return "events", event_type or ""
        case Gap(_, event_type):
            return "rhythm", event_type or ""
        case _:
            return _TOPIC_BY_FORMULA.get(feature.definition.name, ("feature", feature.definition.name))
