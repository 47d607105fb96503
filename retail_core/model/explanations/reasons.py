"""Reasons for a prediction: the matters that move one user's probability most, in plain words with units.

Shapley values (`contributions.shapley_values`) are summed over the features of one topic, such as all windows
of a count with the time since the last event, or everything about the cart. The feature with the largest
value decides which of a topic's facts the sentence states.
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
"""Topic of formulas that restate another feature."""

Topic = tuple[str, str]
"""What one reason is about: the kind of sentence and its subject, as in `("events", "view_item")`."""


@dataclass(frozen=True)
class PredictionReason:
    """One topic that moves a probability away from the average user's.

    Attributes:
        text: like "3 items in the cart for 5 h".
        effect: whether it raises or lowers the probability.
        share: its absolute Shapley value as a share of those of all topics.
    """

    text: str
    effect: Literal["raises", "lowers"]
    share: float


def explain_rows(
    model: CalibratedRanker,
    feature_set: FeatureSet,
    features: FeatureInput,
    policies: Sequence[str] | None = None,
    max_reasons: int = MAX_REASONS,
    *,
    scored: FeatureInput | None = None,
) -> list[tuple[PredictionReason, ...]]:
    """For each row the topics that move its probability most, largest first.

    A topic whose value is missing is never a reason.

    Args:
        model: whose predictions are explained.
        feature_set: names the columns of `features`.
        features: shape (rows, features); null is NaN or `MISSING`.
        policies: cut-off policy of each row; None where all have the primary one.
        max_reasons: reasons per row; there are fewer where fewer topics move it.
        scored: the rows as the ranker got them, where missing values were replaced; None for `features`.

    Raises:
        InputError: the model has no ranker for a policy.
    """
    values = np.asarray(features, dtype=np.float64)
    row_policies = np.array([model.primary] * len(values) if policies is None else policies, dtype=object)
    scored_values = values if scored is None else np.asarray(scored, dtype=np.float64)
    contributions = np.zeros(values.shape)
    for policy in dict.fromkeys(row_policies):
        mask = row_policies == policy
        contributions[mask] = shapley_values(model, scored_values[mask], policy)
    rows = zip(values, contributions, strict=True)
    return [_row_reasons(feature_set, row, contribution, max_reasons) for row, contribution in rows]


def format_reasons(reasons: Iterable[PredictionReason]) -> str:
    """Reasons in one cell of a table.

    >>> cart = PredictionReason("2 items in the cart", "raises", 0.5)
    >>> format_reasons([cart, PredictionReason("no purchase", "lowers", 0.2)])
    'raises: 2 items in the cart; lowers: no purchase'
    """
    return "; ".join(f"{reason.effect}: {reason.text}" for reason in reasons)


def _row_reasons(
    feature_set: FeatureSet, values: FloatArray, contributions: FloatArray, max_reasons: int
) -> tuple[PredictionReason, ...]:
    topics = list(_columns_by_topic(feature_set).items())
    sums = np.array([contributions[list(indices)].sum() for _, indices in topics])
    total = float(np.abs(sums).sum())
    value_by_column = {
        name: None if np.isnan(value) or value == MISSING else float(value)
        for name, value in zip(feature_set.columns, values, strict=True)
    }
    row = wording.FeatureValues(feature_set.task, value_by_column)
    reasons: list[PredictionReason] = []
    for index in np.argsort(-np.abs(sums), kind="stable"):
        topic_sum = float(sums[index])
        if topic_sum == 0 or len(reasons) == max_reasons:
            break
        topic, indices = topics[index]
        strongest_first = sorted(indices, key=lambda column: -contributions[column] * np.sign(topic_sum))
        text = _known_text(topic, row, [feature_set.columns[column] for column in strongest_first])
        if text is not None:
            effect = RAISES if topic_sum > 0 else LOWERS
            reasons.append(PredictionReason(text, effect, abs(topic_sum) / total))
    return tuple(reasons)


def _known_text(topic: Topic, row: wording.FeatureValues, columns: Sequence[str]) -> str | None:
    """The sentence made of the columns that have a value; None where it would state a missing one."""
    with_value = [name for name in columns if row.get(name) is not None]
    text = _reason_text(topic, row, with_value) if with_value else None
    return None if text is None or text.endswith(": unknown") else text


def _reason_text(topic: Topic, row: wording.FeatureValues, columns: Sequence[str]) -> str:
    """One sentence; `columns` of the topic, the one with the largest contribution first."""
    kind, subject = topic
    text = None
    match kind:
        case "events":
            text = wording.events(row, subject or None, _strongest_window(row, columns))
        case "cart":
            text = _cart_text(row, columns)
        case "rhythm":
            text = wording.rhythm(row, subject or None)
        case "attribute":
            text = wording.attribute(subject, row)
    return text or wording.generic(expand_definitions(row.task)[columns[0]], row.get(columns[0]))


def _cart_text(row: wording.FeatureValues, columns: Sequence[str]) -> str | None:
    """Content of the cart; where it is empty and additions contribute most, how many there were."""
    kind = expand_definitions(row.task)[columns[0]].kind
    if row.get("cart_count") or not isinstance(kind, Count | Since):
        return wording.cart(row)
    return wording.events(row, "add_to_cart", _strongest_window(row, columns))


def _strongest_window(row: wording.FeatureValues, columns: Sequence[str]) -> FeatureWindow:
    """Window of the count that contributes most; the look-back where no count contributes."""
    features = expand_definitions(row.task)
    windows = (features[name].window for name in columns if isinstance(features[name].kind, Count))
    return next((window for window in windows if window), row.lookback_window)


@lru_cache(maxsize=4)
def _columns_by_topic(feature_set: FeatureSet) -> Mapping[Topic, tuple[int, ...]]:
    """Indices of the columns by topic, in the order of the columns."""
    features = expand_definitions(feature_set.task)
    topics: dict[Topic, list[int]] = {}
    for index, name in enumerate(feature_set.columns):
        topics.setdefault(_topic_of(name, features.get(name)), []).append(index)
    return {topic: tuple(indices) for topic, indices in topics.items()}


def _topic_of(name: str, feature: Feature | None) -> Topic:
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
