"""Recalibration: new calibrators and thresholds for a model whose ranking is still good.

The rankers stay bit-equal. What is served is fitted on the newest matured days after their training data, at
most four weeks. Whether that is better is judged by repeating the procedure on each of the newest days with
what was known before it (`recalibration_fit`). The result is registered as a version of its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from retail_core.errors import DataError
from retail_core.model.dataset import TrainingData
from retail_core.model.evaluation.metrics import ScoredRows, evaluate, log_loss_improvement
from retail_core.model.procedure import RecallGoal
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.model.threshold_transfer import MAX_STORED_BUYERS, BuyerScores
from retail_core.model.thresholds import sample_row_per_buyer
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import GateVerdict, PromotionDecision
from retail_core.registry.runs import TrainingRun
from retail_core.times import iso, to_utc_ms
from retail_core.training.attempt_recovery import carry_out
from retail_core.training.attempt_run import OpenAttempt, attempt_run
from retail_core.training.attempts import AttemptData, AttemptKind, NewAttempt
from retail_core.training.recalibration_fit import RecalibrationFit, fit_recalibration
from retail_core.training.recalibration_rows import build_recalibration_data
from retail_core.training.results import evaluate_test_rows
from retail_core.training.version_spec import build_self_test, reference_metrics
from retail_core.workspace import Workspace


@dataclass(frozen=True)
class RecalibrationReport:
    """Report of a recalibration.

    Attributes:
        version: the new version.
        recalibrated_from: the version whose rankers it has.
        promoted: whether the new version is in production.
        reason: of the promotion decision.
        verdict: of that decision.
        policies: policies with new calibrators, the primary one first.
        periods: rows and cut-offs of the earlier (`certify`), of the judged (`test`) and, among both, of the
            days that the calibrators are fitted to (`calibrate`).
        before: Brier score, ECE, slope and mean of the old probabilities on the judged days, primary policy.
        after: the same of the procedure's probabilities as of each day.
        thresholds: of the primary policy.
        certificate: of the primary policy.
        certificate_reason: why there is no certificate.
    """

    version: str
    recalibrated_from: str
    promoted: bool
    reason: str
    verdict: str
    policies: tuple[str, ...]
    periods: dict[str, dict[str, Any]]
    before: dict[str, Any]
    after: dict[str, Any]
    thresholds: dict[str, float]
    certificate: dict[str, Any] | None
    certificate_reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"policies": list(self.policies)}


def recalibrate(
    workspace: Workspace, *, version: str | None, as_of: datetime, reason: str = "manual"
) -> RecalibrationReport:
    """Register a version with the rankers of another and new calibrators.

    It is promoted if the other is in production and has a higher log loss on the judged days: 95 % interval
    of the paired difference, users resampled, above zero.

    Args:
        workspace: store and lake.
        version: whose rankers are used; None for the one in production.
        as_of: aware; only labels known then are used.
        reason: why; logged.

    Raises:
        AttemptRunningError: another training or recalibration is running.
        DataError: no such version, or too few buyers later than its training data.
        IntegrityError: the version is damaged.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    store, instant = workspace.store, to_utc_ms(as_of)
    champion = champion_version(store)
    source = version or champion or _refuse_missing_champion()
    new = NewAttempt(AttemptKind.RECALIBRATE, instant, reason, champion)
    with attempt_run(store, new) as attempt:
        return _recalibrate(workspace.pinned(), source, attempt, new)


def _recalibrate(
    workspace: Workspace, source: str, attempt: OpenAttempt, new: NewAttempt
) -> RecalibrationReport:
    """Fit, judge, register with the verdict, and promote if it says so."""
    settings, lease = workspace.settings, attempt.lease
    old = registry.load_version(settings, source)
    lease.record_data(AttemptData(workspace.lake.state(new.as_of).rows, None, old.spec.feature_set.hash))
    data = build_recalibration_data(workspace, old.spec, new.as_of)
    fit = fit_recalibration(old.estimator, data, _recall_goal(old.spec, settings.seed))
    spec = _build_spec(old.spec, attempt.run, data, fit, new.as_of)
    decision = _decide_promotion(old, fit.judged_rows[spec.primary], new.champion, settings.seed)
    lease.record_decision(decision)
    candidate = registry.Candidate(
        spec, fit.model, None, _flat_params(spec), None, [], decision.reason, decision.tags()
    )
    spec = registry.log_and_register(settings, candidate)
    lease.record_version(spec.version)
    decision = carry_out(lease, spec, decision)
    return _make_report(old, spec, decision, fit)


def _refuse_missing_champion() -> str:
    raise DataError("There is no model in production.", remedy="run `retail train` first, or name a version.")


def _recall_goal(spec: ModelSpec, seed: int) -> RecallGoal:
    goal = spec.training["goal"]
    return RecallGoal(goal["target_recall"], goal["confidence"], seed)


def _build_spec(
    old: ModelSpec, run: TrainingRun, data: TrainingData, fit: RecalibrationFit, as_of: datetime
) -> ModelSpec:
    """The old specification with the new parts.

    `data` stays: it describes what the rankers were fitted on, which the triggers compare with.
    """
    seed = old.training["goal"]["seed"]
    evaluated = {
        policy: evaluate_test_rows(data, policy, rows, fit.points[policy], seed)
        for policy, rows in fit.judged_rows.items()
    }
    certified = {policy: points.in_use for policy, points in fit.points.items()}
    provenance = {
        "from": old.version,
        "as_of": iso(as_of),
        "periods": replace(data.split, calibrate=fit.fitted).summarize(data.labelled.rows),
    }
    calibrators = fit.model.calibrators or {}
    methods = {policy: calibrator.method for policy, calibrator in calibrators.items()}
    return replace(
        old,
        version="",
        run_id=run.run_id,
        thresholds=old.thresholds | {policy: points.to_dict() for policy, points in fit.points.items()},
        certificates=old.certificates
        | {
            policy: point.certificate.to_dict() if point.certificate else None
            for policy, point in certified.items()
        },
        reasons=old.reasons | {policy: point.reason for policy, point in certified.items()},
        metrics=old.metrics | {policy: metrics for policy, (metrics, _) in evaluated.items()},
        evaluation=old.evaluation | {policy: details for policy, (_, details) in evaluated.items()},
        reference=reference_metrics(
            fit.judged_rows[old.primary], evaluated[old.primary][0], fit.points[old.primary].f1
        ),
        training=old.training | {"recalibration": provenance, "calibration": methods},
        certification=old.certification
        | {policy: _certify_buyers(rows, seed).to_dict() for policy, rows in fit.rows.items()},
        self_test=build_self_test(data, fit.model),
    )


def _certify_buyers(rows: ScoredRows, seed: int) -> BuyerScores:
    sampled = sample_row_per_buyer(rows.users, rows.labels, seed)[:MAX_STORED_BUYERS]
    return BuyerScores(np.sort(rows.probability[sampled]), np.empty(0))


def _flat_params(spec: ModelSpec) -> dict[str, object]:
    provenance = spec.training["recalibration"]
    return {
        "recalibrated_from": provenance["from"],
        "recalibrated_as_of": provenance["as_of"],
    }


def _decide_promotion(
    old: ServedModel, test: ScoredRows, champion: str | None, seed: int
) -> PromotionDecision:
    """Whether the new probabilities of the primary policy are better than the old ones."""
    version = old.spec.version
    old_probability = old.estimator.calibrate(test.raw, old.spec.primary)
    value, low, high = log_loss_improvement(test, old_probability, seed)
    sentence = (
        f"log loss {-value:+.5f} (95 % {-high:+.5f} to {-low:+.5f}) against version {version} on the same "
        f"{len(test.labels):,} rows, base rate {test.labels.mean():.2%}"
    )
    evidence = {
        "champion": version,
        "log_loss_gain": value,
        "interval": [low, high],
        "rows": len(test.labels),
    }
    if old.spec.leaky:
        return PromotionDecision(
            GateVerdict.REFUSED, "refused: it was trained with a column that leaks the label", {}
        )
    if version != champion:
        reason = f"version {version} is not in production: {sentence}"
        return PromotionDecision(GateVerdict.REFUSED, reason, evidence)
    if low > 0:
        return PromotionDecision(GateVerdict.PROMOTED, f"promoted: {sentence}", evidence)
    return PromotionDecision(GateVerdict.REJECTED, f"kept the champion: {sentence}", evidence)


def _make_report(
    old: ServedModel,
    spec: ModelSpec,
    decision: PromotionDecision,
    fit: RecalibrationFit,
) -> RecalibrationReport:
    primary = spec.primary
    rows = fit.judged_rows[primary]
    return RecalibrationReport(
        version=spec.version,
        recalibrated_from=old.spec.version,
        promoted=decision.promote,
        reason=decision.reason,
        verdict=str(decision.verdict),
        policies=tuple(fit.points),
        periods=spec.training["recalibration"]["periods"],
        before=_calibration_metrics(replace(rows, probability=old.estimator.calibrate(rows.raw, primary))),
        after=_calibration_metrics(rows),
        thresholds=fit.points[primary].to_dict(),
        certificate=spec.certificate,
        certificate_reason=spec.reasons[primary],
    )


def _calibration_metrics(rows: ScoredRows) -> dict[str, Any]:
    metrics = evaluate(rows, 0.5)
    return {name: metrics[name] for name in ("brier", "ece", "slope")} | {
        "mean_probability": float(rows.probability.mean()),
        "base_rate": metrics["base_rate"],
        "n": metrics["n"],
    }
