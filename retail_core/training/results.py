"""What a training found, in numbers and words: metrics with their population, the spec, the captions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from retail_core.features.cutoffs.policies import policy_population
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
from retail_core.model.feature_matrix import MISSING
from retail_core.model.procedure import OperatingPoints, RecallGoal, RefittedModel, period_rows
from retail_core.model.search import SearchResult
from retail_core.model.spec import ModelSpec
from retail_core.registry.versions import TrainingRun
from retail_core.store.lake.table import LakeState
from retail_core.times import iso

SELF_TEST_ROWS = 5


@dataclass(frozen=True)
class TrainingResult:
    """All that the procedure produced; dictionaries are by policy, the primary one first."""

    search: SearchResult
    evaluation: CalibratedRanker
    served: RefittedModel
    test: dict[str, ScoredRows]
    points: dict[str, OperatingPoints]
    goal: RecallGoal
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    detail_metrics: dict[str, dict[str, Any]] = field(default_factory=dict)


def add_test_metrics(data: TrainingData, outcome: TrainingResult, seed: int) -> TrainingResult:
    """The outcome with the metrics of its test rows, by policy, and a closer look at them."""
    metrics, closer = {}, {}
    for policy, rows in outcome.test.items():
        points = outcome.points[policy]
        metrics[policy], closer[policy] = test_metrics(data, policy, rows, points, seed)
    return replace(outcome, metrics=metrics, detail_metrics=closer)


def test_metrics(
    data: TrainingData, policy: str, rows: ScoredRows, points: OperatingPoints, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics of the judged test rows of a policy, with their population and period; and a closer look."""
    tested, matrix = period_rows(data, "test")
    mine = tested["policy"].eq(policy).to_numpy(bool)
    tested, matrix = tested[mine], matrix[mine]
    contact, found = points.in_use.threshold, metric_intervals(rows, points.f1, seed)
    chosen = selection_metrics(rows.labels, rows.probability >= contact)
    none_missed = selection_metrics(rows.labels, rows.probability >= points.no_miss.threshold)
    cart = data.columns_of(matrix, (OPEN_CART_COLUMN,))
    recall = recall_interval(rows, contact, seed) if rows.labels.any() else (0.0, 0.0)
    metrics = evaluate(rows, points.f1) | {
        "ap_low": found.get("ap", (0.0, 1.0))[0],
        "ap_high": found.get("ap", (0.0, 1.0))[1],
        "open_cart_ap": open_cart_ap(cart, rows.labels),
        "contact_recall": chosen["recall"],
        "contact_recall_low": recall[0],
        "contact_recall_high": recall[1],
        "contact_precision": chosen["precision"],
        "contact_share": chosen["chosen_share"],
        "no_miss_share": none_missed["chosen_share"],
        "no_miss_precision": none_missed["precision"],
        "population": policy_population(data.task, policy),
        "first_cutoff": iso(tested["as_of"].min().to_pydatetime()),
        "last_cutoff": iso(tested["as_of"].max().to_pydatetime()),
    }
    named = pd.DataFrame(matrix, columns=list(data.feature_set.columns))
    days = tested["as_of"].dt.tz_convert(data.task.timezone).dt.strftime("%Y-%m-%d")
    return metrics, {
        "intervals": {name: list(one) for name, one in found.items()},
        "segments": metrics_by_segment(rows, named, contact),
        "days": metrics_by_day(rows, days, contact),
        "rules": compare_with_rules(rows, named, seed),
    }


def contact_cost_sentence(metrics: dict[str, Any], certificate: dict[str, Any] | None) -> str:
    """What `contact` costs and what it is worth, on the test rows, in one sentence."""
    told = (
        f"contacts {metrics['contact_share']:.1%} of {metrics['population']}; "
        f"{metrics['contact_precision']:.1%} of them buy (base rate {metrics['base_rate']:.1%}), "
        f"{metrics['contact_recall']:.1%} of the buyers' rows are found"
    )
    if certificate is None:
        return f"{told}; no recall is certified"
    return (
        f"{told}; certified with {certificate['confidence']:.0%} confidence: at least "
        f"{certificate['lower_bound']:.1%} of all buyers ({certificate['buyers']} buyers looked at)"
    )


def caption(data: TrainingData, outcome: TrainingResult, policy: str) -> str:
    """Population, period and base rate of the test rows, on two lines."""
    metrics = outcome.metrics[policy]
    days = f"{metrics['first_cutoff'][:10]} to {metrics['last_cutoff'][:10]}"
    return (
        f"{policy_population(data.task, policy)}\n"
        f"test cut-offs {days} ({data.split.kind}), {metrics['n']:,} rows, "
        f"{metrics['positives']:,} bought within {data.task.horizon_hours} h: "
        f"base rate {metrics['base_rate']:.2%}"
    )


def population(data: TrainingData) -> dict[str, Any]:
    """Who is eligible, and how many labelled rows that made."""
    rows = data.labelled.rows
    return {
        "definition": "; ".join(policy_population(data.task, policy) for policy in data.policies),
        **asdict(data.task),
        "policies": list(data.policies),
        "rows": len(rows),
        "users": int(rows["user_id"].nunique()),
        "positives": int(rows["label"].sum()),
        "base_rate": float(rows["label"].mean()),
        "first_cutoff": iso(rows["as_of"].min().to_pydatetime()),
        "last_cutoff": iso(rows["as_of"].max().to_pydatetime()),
    }


def build_spec(
    data: TrainingData,
    outcome: TrainingResult,
    run: TrainingRun,
    lake: LakeState,
    as_of: datetime,
    *,
    leaky: bool,
) -> ModelSpec:
    """The spec of the served model, not yet registered."""
    policies = data.policies
    primary = outcome.test[policies[0]]
    certified = {policy: outcome.points[policy].in_use for policy in policies}
    return ModelSpec(
        version="",
        run_id=run.run_id,
        trained_at=datetime.fromtimestamp(run.started_ms / 1000, UTC),
        feature_set=data.feature_set,
        policies=policies,
        thresholds=outcome.served.thresholds,
        certificates={
            policy: one.certificate.to_dict() if one.certificate else None
            for policy, one in certified.items()
        },
        reasons={policy: one.reason for policy, one in certified.items()},
        metrics=outcome.metrics,
        evaluation=outcome.detail_metrics,
        reference=reference_metrics(primary, outcome.metrics[policies[0]], outcome.points[policies[0]].f1),
        data={
            "rows": len(data.labelled.rows),
            "events": lake.rows,
            "data_hash": lake.data_hash,
            "last_event": iso(lake.last_event) if lake.last_event else None,
            "as_of": iso(as_of),
        },
        training=_training(data, outcome),
        certification={policy: one.to_dict() for policy, one in outcome.served.buyers.items()},
        self_test=build_self_test(data, outcome.served.model),
        leaky=leaky,
    )


def flat_params(data: TrainingData, outcome: TrainingResult, spec: ModelSpec) -> dict[str, object]:
    """Parameters for MLflow's table."""
    task = {f"question.{name}": value for name, value in asdict(data.task).items()}
    periods = {
        f"{name}.{key}": value for name, one in spec.training["periods"].items() for key, value in one.items()
    }
    return {
        **outcome.search.best_params,
        **{f"search.{name}": value for name, value in outcome.search.to_dict().items() if name != "compared"},
        **task,
        **periods,
        **{f"data.{name}": value for name, value in spec.data.items()},
        "family": outcome.search.config.family,
        "split": data.split.kind,
        "features": len(data.feature_set.columns),
        "feature_set_hash": data.feature_set.hash,
        "fit_negative_rate": data.fit_sampling.negative_rate,
        "refit_negative_rate": data.refit_sampling.negative_rate,
    }


def _training(data: TrainingData, outcome: TrainingResult) -> dict[str, Any]:
    return {
        "family": outcome.search.config.family,
        "best_params": outcome.search.best_params,
        "search": outcome.search.to_dict(),
        "goal": asdict(outcome.goal),
        "split": data.split.kind,
        "periods": data.split.summarize(data.labelled.rows),
        "sampling": {"fit": asdict(data.fit_sampling), "refit": asdict(data.refit_sampling)},
        "calibration": {
            policy: one.method for policy, one in (outcome.served.model.calibrators or {}).items()
        },
        "evaluation_thresholds": {policy: one.to_dict() for policy, one in outcome.points.items()},
        "gaps": [str(day) for day in data.labelled.gaps],
        "dropped_features": list(data.dropped),
        "eligible": population(data),
    }


def reference_metrics(rows: ScoredRows, metrics: dict[str, Any], f1: float) -> dict[str, float]:
    """What live quality is compared with: the choice at the best-F1 threshold on the test rows."""
    chosen = rows.probability >= f1
    others = max(1, int((~rows.labels).sum()))
    return {
        "f1": float(metrics["f1"]),
        "recall": float(metrics["recall"]),
        "false_positive_rate": float((chosen & ~rows.labels).sum() / others),
        "base_rate": float(metrics["base_rate"]),
        "n": int(metrics["n"]),
        "positives": int(metrics["positives"]),
    }


def build_self_test(data: TrainingData, model: CalibratedRanker) -> dict[str, Any]:
    """A few rows spread over the test period, as float64 with nulls, and what the served model says."""
    _, matrix = period_rows(data, "test")
    chosen = matrix[np.linspace(0, len(matrix) - 1, SELF_TEST_ROWS).astype(int)]
    frame = pd.DataFrame(chosen.astype(np.float64), columns=list(data.feature_set.columns))
    frame = frame.mask(chosen == MISSING)
    answers = {policy: model.probability(frame, policy).tolist() for policy in model.calibrators or {}}
    rows = [[None if pd.isna(value) else float(value) for value in row] for row in frame.to_numpy()]
    return {"rows": rows, "probability": answers}
