"""What is shown of a model, of an item that failed and of one that lacks something."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from bentos.intake import Item, Refused
from bentos.models import Loaded
from bentos.problems import Problem
from bentos.wire import ItemError, ModelAnswer, ProblemDocument
from retail_core.times import iso


def item_error(item: Item | Refused, problem: Problem) -> ItemError:
    """The entry of a failed item in the answer to a list."""
    body = problem.body()
    document = ProblemDocument(
        type=str(body["type"]),
        title=str(body["title"]),
        status=problem.status,
        detail=problem.detail,
        remedy=problem.remedy,
        errors=list(problem.errors),
    )
    return ItemError(item.user_id, document)


def model_view(name: str, loaded: Loaded, reload_refused: str | None) -> ModelAnswer:
    """The model that answers now, as `GET /model` shows it."""
    spec = loaded.served.spec
    return ModelAnswer(
        name=name,
        version=spec.version,
        run_id=spec.run_id,
        trained_at=iso(spec.trained_at),
        bento_model=loaded.tag,
        feature_set_hash=spec.feature_set.hash,
        features=list(spec.feature_set.columns),
        question=asdict(spec.feature_set.task),
        policies=list(spec.policies),
        base_rate=spec.base_rate,
        metrics=spec.metrics[spec.primary],
        threshold=spec.thresholds[spec.primary]["contact"],
        certificate=spec.certificate,
        uncertified=spec.reasons[spec.primary],
        by_policy={
            policy: {
                "metrics": spec.metrics[policy],
                "thresholds": spec.thresholds[policy],
                "certificate": spec.certificates[policy],
            }
            for policy in spec.policies
        },
        reference=spec.reference,
        data=spec.data,
        reload_refused=reload_refused,
    )


def not_stored(as_of: datetime) -> str:
    """What who asks is told where a day's context would be used and is not stored."""
    return (
        f"What is known of the shop on the day of {iso(as_of)} is not stored yet and was taken as unknown: "
        "`retail score`, which computes and stores it, may give another probability."
    )
