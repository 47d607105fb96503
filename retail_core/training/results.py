"""Results of a training: fitted models with their test metrics, and the report made of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from retail_core.features.cutoffs.list_cutoff import describe_training_windows
from retail_core.features.cutoffs.policies import describe_population
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import (
    OPEN_CART_COLUMN,
    ScoredRows,
    evaluate,
    metric_intervals,
    open_cart_ap,
    recall_interval,
    selection_metrics,
)
from retail_core.model.evaluation.segments import compare_with_rules, metrics_by_day, metrics_by_segment
from retail_core.model.procedure import OperatingPoints, RecallGoal, RefittedModel, period_rows
from retail_core.model.search import SearchResult
from retail_core.model.spec import ModelSpec
from retail_core.registry.promotion import PromotionDecision
from retail_core.times import iso


@dataclass(frozen=True)
class TrainingResult:
    """What the training procedure produced; dictionaries are by policy, the primary one first.

    Attributes:
        search: every cell of the grid and the selected configuration.
        evaluation: the model whose metrics are reported.
        served: the model refitted on all rows, with its thresholds.
        test: scored test rows.
        points: operating points of the evaluation model.
        goal: the recall that `contact` must reach.
        metrics: metrics of the test rows.
        detail_metrics: intervals of the metrics, segments, days and rules on the same rows.
    """

    search: SearchResult
    evaluation: CalibratedRanker
    served: RefittedModel
    test: dict[str, ScoredRows]
    points: dict[str, OperatingPoints]
    goal: RecallGoal
    metrics: dict[str, dict[str, Any]]
    detail_metrics: dict[str, dict[str, Any]]


def evaluate_test_rows(
    data: TrainingData, policy: str, rows: ScoredRows, points: OperatingPoints, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of a policy's test rows with population and period, and the detail metrics.

    Args:
        data: where the rows come from.
        policy: cut-off policy of the rows.
        rows: scored test rows of the policy.
        points: operating points of the policy.
        seed: of the resampling.

    Returns:
        `TrainingResult.metrics` and `TrainingResult.detail_metrics` of the policy.
    """
    test_rows, matrix = period_rows(data, "test")
    of_policy = test_rows["policy"].eq(policy).to_numpy(bool)
    test_rows, matrix = test_rows[of_policy], matrix[of_policy]
    contact, intervals = points.in_use.threshold, metric_intervals(rows, points.f1, seed)
    contacted = selection_metrics(rows.labels, rows.probability >= contact)
    no_miss = selection_metrics(rows.labels, rows.probability >= points.no_miss.threshold)
    cart = data.columns_of(matrix, (OPEN_CART_COLUMN,))
    recall = recall_interval(rows, contact, seed) if rows.labels.any() else (0.0, 0.0)
    metrics = evaluate(rows, points.f1) | {
        "ap_low": intervals.get("ap", (0.0, 1.0))[0],
        "ap_high": intervals.get("ap", (0.0, 1.0))[1],
        "open_cart_ap": open_cart_ap(cart, rows.labels),
        "contact_recall": contacted["recall"],
        "contact_recall_low": recall[0],
        "contact_recall_high": recall[1],
        "contact_precision": contacted["precision"],
        "contact_share": contacted["chosen_share"],
        "no_miss_share": no_miss["chosen_share"],
        "no_miss_precision": no_miss["precision"],
        "population": describe_population(data.task, policy),
        "first_cutoff": iso(test_rows["as_of"].min().to_pydatetime()),
        "last_cutoff": iso(test_rows["as_of"].max().to_pydatetime()),
    }
    features = pd.DataFrame(matrix, columns=list(data.feature_set.columns))
    days = test_rows["as_of"].dt.tz_convert(data.task.timezone).dt.strftime("%Y-%m-%d")
    return metrics, {
        "intervals": {name: list(bounds) for name, bounds in intervals.items()},
        "segments": metrics_by_segment(rows, features, contact),
        "days": metrics_by_day(rows, days, contact),
        "rules": compare_with_rules(rows, features, seed),
    }


@dataclass(frozen=True)
class TrainReport:
    """Report of a training; metrics are of the primary policy's test rows, by the evaluation model.

    `known_until` (ISO 8601) is the end of the data used: `as_of`, or the end of the log where that is
    earlier. `gaps` are days without events that count as outages, `quiet_days` those that count as real.
    `statement` says in words from which label windows the model learned.
    """

    run_id: str
    version: str
    promoted: bool
    reason: str
    metrics: dict[str, Any]
    by_policy: dict[str, dict[str, Any]]
    threshold: float
    certificate: dict[str, Any] | None
    certificate_reason: str | None
    price: str
    split: str
    periods: dict[str, dict[str, Any]]
    family: str
    best_params: dict[str, float]
    search: dict[str, Any]
    leakage: dict[str, Any]
    eligible: dict[str, Any]
    known_until: str
    gaps: tuple[str, ...]
    quiet_days: tuple[str, ...]
    statement: str
    dropped_features: tuple[str, ...]
    features: int
    gate: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        lists = {name: list(getattr(self, name)) for name in ("gaps", "quiet_days", "dropped_features")}
        return asdict(self) | lists


def make_report(
    data: TrainingData, result: TrainingResult, spec: ModelSpec, decision: PromotionDecision
) -> TrainReport:
    """The report of a registered version."""
    primary = spec.primary
    return TrainReport(
        run_id=spec.run_id,
        version=spec.version,
        promoted=decision.promote,
        reason=decision.reason,
        metrics=spec.metrics[primary],
        by_policy={
            policy: spec.metrics[policy]
            | {"thresholds": spec.thresholds[policy], "certificate": spec.certificates[policy]}
            for policy in spec.policies
        },
        threshold=spec.thresholds[primary]["contact"],
        certificate=spec.certificate,
        certificate_reason=spec.reasons[primary],
        price=contact_cost_sentence(spec.metrics[primary], spec.certificate),
        split=data.split.kind,
        periods=spec.training["periods"],
        family=result.search.config.family,
        best_params=result.search.best_params,
        search=result.search.to_dict(),
        leakage=spec.training["leakage"],
        eligible=summarize_population(data),
        known_until=iso(data.labelled.known_until),
        gaps=tuple(str(day) for day in data.labelled.gaps),
        quiet_days=tuple(str(day) for day in data.labelled.quiet_days),
        statement=_describe_training(data),
        dropped_features=data.dropped,
        features=len(data.feature_set.columns),
        gate=decision.to_dict(),
    )


def _describe_training(data: TrainingData) -> str:
    cutoffs, known_until = data.labelled.rows["as_of"], data.labelled.known_until
    first, last = cutoffs.min().to_pydatetime(), cutoffs.max().to_pydatetime()
    return describe_training_windows(first, last, known_until, data.task)


def contact_cost_sentence(metrics: dict[str, Any], certificate: dict[str, Any] | None) -> str:
    """Share contacted, precision, recall and certificate of `contact` on the test rows, in one sentence."""
    sentence = (
        f"contacts {metrics['contact_share']:.1%} of {metrics['population']}; "
        f"{metrics['contact_precision']:.1%} of them buy (base rate {metrics['base_rate']:.1%}), "
        f"{metrics['contact_recall']:.1%} of the buyers' rows are found"
    )
    if certificate is None:
        return f"{sentence}; no recall is certified"
    return (
        f"{sentence}; certified with {certificate['confidence']:.0%} confidence: at least "
        f"{certificate['lower_bound']:.1%} of all buyers ({certificate['buyers']} buyers looked at)"
    )


def plot_caption(data: TrainingData, metrics: dict[str, Any], policy: str) -> str:
    """Population, period and base rate of the test rows, on two lines."""
    days = f"{metrics['first_cutoff'][:10]} to {metrics['last_cutoff'][:10]}"
    return (
        f"{describe_population(data.task, policy)}\ntest cut-offs {days} ({data.split.kind}), "
        f"{metrics['n']:,} rows, {metrics['positives']:,} bought within {data.task.horizon_hours} h: "
        f"base rate {metrics['base_rate']:.2%}"
    )


def summarize_population(data: TrainingData) -> dict[str, Any]:
    """Who is eligible, and the size of the labelled rows."""
    rows = data.labelled.rows
    return {
        "definition": "; ".join(describe_population(data.task, policy) for policy in data.policies),
        **asdict(data.task),
        "policies": list(data.policies),
        "rows": len(rows),
        "users": int(rows["user_id"].nunique()),
        "positives": int(rows["label"].sum()),
        "base_rate": float(rows["label"].mean()),
        "first_cutoff": iso(rows["as_of"].min().to_pydatetime()),
        "last_cutoff": iso(rows["as_of"].max().to_pydatetime()),
    }
