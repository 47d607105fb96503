"""From prepared items to predictions: features of one user at one cut-off, the model, reasons."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from bentos.messages import Answer, Reason
from bentos.problems import Problem, invalid
from retail_core.arrays import FloatArray, FloatVector
from retail_core.features.batch.encoded_histories import ComputedFeatures
from retail_core.features.cutoffs.policies import LAST_EVENT_FEATURE, policy_for
from retail_core.features.event_columns import EventColumns, OnlineEvent
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.online_interpreter import compute_user_values
from retail_core.features.prediction_task import PredictionTask
from retail_core.features.time_windows import HOUR_US
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.times import iso, to_micros

REASON_BUDGET = 4e8
"""Steps spent on the reasons of one request, a second or two; see `max_explainable_rows`."""

UNDATED = datetime.min.replace(tzinfo=UTC)
"""Stands for the `valid_from` of attributes without one."""

ScoredCallback = Callable[[str, str, Sequence[str], FloatArray, FloatArray], None]
"""Receives version, policy, columns, feature rows of shape (rows, columns), and probabilities."""


@dataclass(frozen=True)
class PreparedItem:
    """One validated item with its inputs; exactly one of `features`, `computed` and `events` is used.

    Attributes:
        user_id: the user.
        as_of: cut-off, UTC, whole milliseconds.
        features: feature values that were sent, or None.
        computed: features of the stored events, without attributes, or None.
        events: the user's events of the look-back (stored and sent), or None.
        attribute_rows: documents of `users` of this user.
        context: context features of the day of `as_of`, as far as stored.
        history: where the events come from, as in `Answer.history`.
        warnings: limitations of this prediction, in sentences.
        reasons: whether the response has reasons.
    """

    user_id: str
    as_of: datetime
    features: Mapping[str, float | None] | None = None
    computed: ComputedFeatures | None = None
    events: EventColumns | None = None
    attribute_rows: Sequence[Mapping[str, object]] = ()
    context: Mapping[str, float | None] = field(default_factory=dict)
    history: str = "features"
    warnings: tuple[str, ...] = ()
    reasons: bool = False


@dataclass(frozen=True)
class FeatureRow:
    """The feature values of one item in the model's order, and the policy whose ranker scores them."""

    item: PreparedItem
    values: Sequence[float | None] | FloatVector
    policy: str
    eligible: bool | None


def predict(
    model: ServedModel, items: Sequence[PreparedItem], on_scored: ScoredCallback | None = None
) -> list[Answer | Problem]:
    """Predictions in the order of the items, a problem where there is none.

    `on_scored` is called once per policy with what was scored.
    """
    outcomes: list[Answer | Problem | None] = [None] * len(items)
    by_policy: dict[str, list[tuple[int, FeatureRow]]] = defaultdict(list)
    for position, item in enumerate(items):
        try:
            row = feature_row(model.spec, item)
        except Problem as problem:
            outcomes[position] = problem
        else:
            by_policy[row.policy].append((position, row))
    for policy, rows in by_policy.items():
        matrix = np.array([row.values for _, row in rows], dtype=np.float64)
        scored = model.predict_rows(matrix, policy)
        if on_scored is not None:
            columns, _ = _columns(model.spec.feature_set)
            on_scored(model.spec.version, policy, columns, matrix, scored.probability)
        scores = (scored.probability.tolist(), scored.will_purchase.tolist(), scored.contact.tolist())
        for (position, row), probability, will, contact in zip(rows, *scores, strict=True):
            outcomes[position] = _answer(model.spec, row, probability, will, contact)
    return [outcome for outcome in outcomes if outcome is not None]


def merge_events(stored: EventColumns, sent: Sequence[OnlineEvent]) -> EventColumns:
    """Stored and sent events of one user, each id once; a stored event wins over a sent one."""
    return stored.append(EventColumns.from_events(sent)).deduplicate() if sent else stored


def feature_row(spec: ModelSpec, item: PreparedItem) -> FeatureRow:
    """The features of one item.

    Raises:
        Problem: 404 where the user has no event in the look-back, 422 for an unknown feature.
    """
    if item.features is not None:
        return _row_of_features(spec, item, item.features)
    task = spec.feature_set.task
    silent_hours = item.computed.silent_hours if item.computed else _silent_hours(item, task)
    if math.isnan(silent_hours):
        period = f"in the {task.lookback_days} days before {iso(item.as_of)}"
        raise Problem(404, "unknown-user", f"There are no events of this user {period}.")
    policy = policy_for(silent_hours, spec.policies)
    eligible = silent_hours <= task.eligible_days * 24
    return FeatureRow(item, _history_values(spec.feature_set, item, policy), policy, eligible)


def _silent_hours(item: PreparedItem, task: PredictionTask) -> float:
    """Hours since the last event of the look-back; NaN without events."""
    cutoff_us = to_micros(item.as_of)
    events = item.events or EventColumns()
    times_us = [time for time in events.event_time if cutoff_us - task.lookback_us <= time < cutoff_us]
    return (cutoff_us - max(times_us)) / HOUR_US if times_us else math.nan


def _history_values(
    feature_set: FeatureSet, item: PreparedItem, policy: str
) -> Sequence[float | None] | FloatVector:
    attributes = latest_attributes(item.attribute_rows, item.as_of, undated=policy == "first-visit")
    if item.computed is None:
        events = item.events or EventColumns()
        return compute_user_values(events, item.as_of, feature_set, attributes, item.context)
    encoded = [value for attribute in feature_set.attributes for value in attribute.encode(attributes)]
    return np.concatenate([item.computed.values, encoded]) if encoded else item.computed.values


def latest_attributes(
    rows: Sequence[Mapping[str, object]], as_of: datetime, *, undated: bool
) -> dict[str, object]:
    """A user's attributes as of a cut-off: those of the latest row with `valid_from` <= as_of, as in batch.

    Args:
        rows: documents of `users` of one user: `valid_from` (aware or None), `attributes` (JSON text).
        as_of: the cut-off, aware.
        undated: whether rows without `valid_from` count, as valid since ever (first visits).
    """
    valid = [row for row in rows if _valid_from(row) <= as_of and (undated or _valid_from(row) != UNDATED)]
    if not valid:
        return {}
    latest = max(valid, key=lambda row: (_valid_from(row), str(row["attributes"])))
    attributes: dict[str, object] = json.loads(str(latest["attributes"]))
    return attributes


@lru_cache(maxsize=64)
def missing_context_warning(as_of: datetime, *, has_usual: bool) -> str:
    """The warning for a prediction that needs a day's context features where there are none.

    Args:
        as_of: the cut-off.
        has_usual: whether the model has usual values, which then replace them.
    """
    missing = f"The shop's buyers and rates before the day of {iso(as_of)} are not stored"
    if has_usual:
        return (
            f"{missing}; the usual values of that weekday in the training data were used, so that the "
            "probabilities are right for an ordinary day. `retail ingest` and `retail score` store the "
            "values of the day itself."
        )
    return (
        f"{missing} and were taken as unknown: the probabilities may be far too high or too low. Run `retail "
        "score` for this instant, or train again: models of this release have usual values for this case."
    )


def with_requested_reasons(
    items: Iterable[PreparedItem], outcomes: Iterable[Answer | Problem]
) -> Iterator[tuple[PreparedItem, Answer]]:
    """The items with `reasons` that have a prediction, each with it."""
    for item, outcome in zip(items, outcomes, strict=True):
        if item.reasons and isinstance(outcome, Answer):
            yield item, outcome


def add_reasons(model: ServedModel, predictions: Sequence[tuple[PreparedItem, Answer]]) -> None:
    """Add reasons to the predictions, in place; those beyond `REASON_BUDGET` get a warning instead."""
    # The process that starts the workers imports this module too, and needs no model.
    from retail_core.model.explanations.contributions import max_explainable_rows
    from retail_core.model.explanations.reasons import explain_rows

    spec = model.spec
    limit = max_explainable_rows(model.estimator, REASON_BUDGET)
    explained = predictions[:limit]
    rows = np.array([feature_row(spec, item).values for item, _ in explained], dtype=np.float64)
    policies = [answer.policy for _, answer in explained]
    reason_lists = explain_rows(
        model.estimator, spec.feature_set, rows, policies, scored=model.as_scored(rows)
    )
    for (_, answer), row_reasons in zip(predictions, reason_lists, strict=False):
        answer.reasons = [
            Reason(reason.text, reason.effect, round(reason.share, 4)) for reason in row_reasons
        ]
    for _, answer in predictions[limit:]:
        answer.warnings = [*answer.warnings, f"No reasons: this model explains at most {limit} of a request."]


def _row_of_features(spec: ModelSpec, item: PreparedItem, features: Mapping[str, float | None]) -> FeatureRow:
    columns, column_set = _columns(spec.feature_set)
    if not column_set.issuperset(features):
        unknown = min(set(features) - column_set)
        raise invalid(f"features.{unknown}", "the model has no feature of this name (GET /model lists them)")
    policy = policy_for(features.get(LAST_EVENT_FEATURE), spec.policies)
    return FeatureRow(item, list(map(features.get, columns)), policy, None)


@lru_cache(maxsize=4)
def _columns(feature_set: FeatureSet) -> tuple[tuple[str, ...], frozenset[str]]:
    return feature_set.columns, frozenset(feature_set.columns)


def _answer(
    spec: ModelSpec, row: FeatureRow, probability: float, will_purchase: bool, contact: bool
) -> Answer:
    item = row.item
    by_features = item.features is not None
    return Answer(
        user_id=item.user_id,
        probability=probability,
        will_purchase=will_purchase,
        contact=contact,
        threshold=spec.thresholds[row.policy]["contact"],
        model_version=spec.version,
        policy=row.policy,
        as_of=_iso(item.as_of),
        history=item.history,
        eligible=row.eligible,
        features_missing=sum(value is None for value in row.values) if by_features else None,
        warnings=list(item.warnings),
    )


@lru_cache(maxsize=1024)
def _iso(instant: datetime) -> str:
    """As `iso`; the items of a list often have one cut-off."""
    return iso(instant)


def _valid_from(row: Mapping[str, object]) -> datetime:
    valid_from = row.get("valid_from")
    return valid_from if isinstance(valid_from, datetime) else UNDATED
