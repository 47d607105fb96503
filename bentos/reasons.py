"""Why a probability is what it is, for those who ask; beside the loop, since trees take their time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from bentos.predictor import Question, row_of
from bentos.problems import Problem
from bentos.wire import Answer, Reason
from retail_core.model.served_model import ServedModel

WORK = 4e8
"""Steps spent on the reasons of one request, a second or two; see `affordable_rows`."""

Asked = tuple[Question, Answer]


def asking(questions: Iterable[Question], answers: Iterable[Answer | Problem]) -> Iterator[Asked]:
    """The answered questions that want reasons."""
    for question, answer in zip(questions, answers, strict=True):
        if question.reasons and isinstance(answer, Answer):
            yield question, answer


def add_reasons(model: ServedModel, asked: Sequence[Asked]) -> None:
    """Put reasons into the answers; those beyond what one request may cost get a warning in their place."""
    # The process that starts the others imports this module too, and needs no model.
    from retail_core.model.explanations.contributions import max_explainable_rows
    from retail_core.model.explanations.reasons import explain_rows

    spec = model.spec
    most = max_explainable_rows(model.estimator, WORK)
    rows = np.array([row_of(spec, question).values for question, _ in asked[:most]], dtype=np.float64)
    policies = [answer.policy for _, answer in asked[:most]]
    told = explain_rows(model.estimator, spec.feature_set, rows, policies)
    for (_, answer), found in zip(asked, told, strict=False):
        answer.reasons = [Reason(one.text, one.effect, round(one.share, 4)) for one in found]
    for _, answer in asked[most:]:
        answer.warnings = [*answer.warnings, f"No reasons: this model explains at most {most} of a request."]
