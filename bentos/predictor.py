"""From validated questions to answers: features of one user at one instant, then the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bentos.attributes import attributes_at
from bentos.problems import Problem, invalid
from bentos.wire import Answer
from retail_core.features.cutoffs.policies import LAST_EVENT_FEATURE, policy_for
from retail_core.features.feature_set import FeatureSet
from retail_core.features.online.event_columns import EventColumns, OnlineEvent
from retail_core.features.online.online_interpreter import compute_user_values
from retail_core.features.time_windows import HOUR_US
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.times import iso

Seen = Callable[[str, str, Sequence[str], npt.NDArray[np.float64], npt.NDArray[np.float64]], None]


@dataclass(frozen=True)
class Question:
    """One item, checked: exactly one of `features` and `events` is in use.

    Attributes:
        user_id: the user.
        as_of: t, UTC, whole milliseconds.
        features: given feature values, or None.
        events: the user's events of the look-back (stored and sent), or None with `features`.
        attribute_rows: documents of `users` of this user.
        context: context features of the day of `as_of`, as far as stored.
        history: where the events come from, as `Answer.history` says.
        warnings: what the asker should know about this answer.
        reasons: whether the answer is to say why.
    """

    user_id: str
    as_of: datetime
    features: Mapping[str, float | None] | None = None
    events: EventColumns | None = None
    attribute_rows: Sequence[Mapping[str, object]] = ()
    context: Mapping[str, float | None] = field(default_factory=dict)
    history: str = "features"
    warnings: tuple[str, ...] = ()
    reasons: bool = False


@dataclass(frozen=True)
class Row:
    """The feature values of one question, in the model's order, and the policy its part is chosen by."""

    question: Question
    values: Sequence[float | None]
    policy: str
    eligible: bool | None


def predict(
    model: ServedModel, questions: Sequence[Question], seen: Seen | None = None
) -> list[Answer | Problem]:
    """Answers in the order of the questions; a question without an answer gets its problem.

    `seen` is told what was scored: version, policy, columns, rows of features and probabilities.
    """
    answers: list[Answer | Problem | None] = [None] * len(questions)
    by_policy: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for position, question in enumerate(questions):
        try:
            row = row_of(model.spec, question)
        except Problem as problem:
            answers[position] = problem
        else:
            by_policy[row.policy].append((position, row))
    for policy, rows in by_policy.items():
        matrix = np.array([row.values for _, row in rows], dtype=np.float64)
        scored = model.predict_rows(matrix, policy)
        if seen is not None:
            columns, _ = _columns(model.spec.feature_set)
            seen(model.spec.version, policy, columns, matrix, scored.probability)
        chosen = (scored.probability.tolist(), scored.will_purchase.tolist(), scored.contact.tolist())
        for (position, row), probability, will, contact in zip(rows, *chosen, strict=True):
            answers[position] = _answer(model.spec, row, probability, will, contact)
    return [answer for answer in answers if answer is not None]


def merge(stored: EventColumns, sent: Sequence[OnlineEvent]) -> EventColumns:
    """Stored and sent events of one user, each id once; of two with the same the stored one stays."""
    return stored.append(EventColumns.from_events(sent)).deduplicate() if sent else stored


def row_of(spec: ModelSpec, question: Question) -> Row:
    """Features of one question.

    Raises:
        Problem: 404 where the user has no event in the look-back, 422 for an unknown feature.
    """
    if question.features is not None:
        return _row_of_features(spec, question, question.features)
    now = _micros(question.as_of)
    asked = spec.feature_set.task
    events = question.events or EventColumns()
    start = now - asked.lookback_us
    times = [time for time in events.event_time if start <= time < now]
    if not times:
        said = f"in the {asked.lookback_days} days before {iso(question.as_of)}"
        raise Problem(404, "unknown-user", f"There are no events of this user {said}.")
    silent = now - max(times)
    eligible = silent <= asked.eligible_days * 24 * HOUR_US
    policy = policy_for(silent / HOUR_US, spec.policies)
    known = attributes_at(question.attribute_rows, question.as_of, undated=policy == "first-visit")
    values = compute_user_values(events, question.as_of, spec.feature_set, known, question.context)
    return Row(question, values, policy, eligible)


def _row_of_features(spec: ModelSpec, question: Question, given: Mapping[str, float | None]) -> Row:
    columns, known = _columns(spec.feature_set)
    if not known.issuperset(given):
        unknown = min(set(given) - known)
        raise invalid(f"features.{unknown}", "the model has no feature of this name (GET /model lists them)")
    policy = policy_for(given.get(LAST_EVENT_FEATURE), spec.policies)
    return Row(question, list(map(given.get, columns)), policy, None)


@lru_cache(maxsize=4)
def _columns(feature_set: FeatureSet) -> tuple[tuple[str, ...], frozenset[str]]:
    return feature_set.columns, frozenset(feature_set.columns)


def _answer(spec: ModelSpec, row: Row, probability: float, will_purchase: bool, contact: bool) -> Answer:
    question = row.question
    by_features = question.features is not None
    return Answer(
        user_id=question.user_id,
        probability=probability,
        will_purchase=will_purchase,
        contact=contact,
        threshold=spec.thresholds[row.policy]["contact"],
        model_version=spec.version,
        policy=row.policy,
        as_of=iso(question.as_of),
        history=question.history,
        eligible=row.eligible,
        features_missing=row.values.count(None) if by_features else None,
        warnings=list(question.warnings),
    )


def _micros(instant: datetime) -> int:
    return round(instant.timestamp() * 1000) * 1000
