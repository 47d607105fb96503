"""New calibrators and thresholds for a model that still ranks well, from days it has never seen.

The ranker stays as it is, to the bit. The newest matured days later than its training data are cut into three
successive blocks: on the first the calibrators are fitted, on the second the thresholds are certified, on
the third old and new probabilities are compared. What comes of it is a version of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from retail_core.errors import DataError
from retail_core.model import procedure
from retail_core.model.calibration import fit_calibrator
from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import ScoredRows, evaluate, log_loss_improvement
from retail_core.model.procedure import OperatingPoints, RecallGoal
from retail_core.model.served_model import ServedModel
from retail_core.model.spec import ModelSpec
from retail_core.model.threshold_transfer import MAX_STORED_BUYERS, BuyerScores
from retail_core.model.thresholds import sample_row_per_buyer
from retail_core.registry import promotion
from retail_core.registry import versions as registry
from retail_core.registry.promotion import PromotionDecision
from retail_core.registry.versions import load_version
from retail_core.settings import Settings
from retail_core.times import iso, to_utc_ms
from retail_core.training.recalibration_rows import RECALIBRATION_PERIODS, build_recalibration_data
from retail_core.training.results import build_self_test, reference_metrics, test_metrics
from retail_core.workspace import Workspace


@dataclass(frozen=True)
class RecalibrationReport:
    """What came of it; `policies` are those with new calibrators, figures of the primary policy's last block.

    `before` and `after`: Brier, ECE, slope and mean of the old and the new probabilities there.
    """

    version: str
    recalibrated_from: str
    promoted: bool
    reason: str
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


def recalibrate(workspace: Workspace, *, version: str | None, as_of: datetime) -> RecalibrationReport:
    """Register `version` (None: the one in production) anew with calibrators fitted as of `as_of` (aware).

    It goes into production if the old one is there and loses on the last block: 95 % interval of the paired
    difference in log loss, users resampled, above zero.

    Raises:
        DataError: no such version, or too few buyers later than its training data.
        IntegrityError: the version is damaged.
        DependencyError: MLflow or MongoDB is unreachable.
    """
    promotion.repair(workspace.store)
    workspace, settings = workspace.pinned(), workspace.settings
    champion = registry.production_version(settings)
    old = load_version(settings, version or champion or _refuse_nothing())
    data = build_recalibration_data(workspace, old.spec, to_utc_ms(as_of))
    new, points = _fitted(old, data, settings)
    tested = procedure.score_period(new, data, "test")
    with registry.training_run(settings, reason="recalibration") as run:
        spec = _spec(old.spec, run, data, points, _EvaluatedModel(new, tested, as_of), settings)
        spec = registry.log_and_register(
            settings, registry.Candidate(spec, new, None, _params(spec), None, [])
        )
    decision = _judge(old, tested[data.policies[0]], champion, settings)
    if decision.promote:
        promotion.promote_on(workspace.store, spec.version, decision)
    return _report(old, spec, decision, data, tested[data.policies[0]], points)


def _refuse_nothing() -> str:
    raise DataError("There is no model in production.", remedy="run `retail train` first, or name a version.")


def _fitted(
    old: ServedModel, data: TrainingData, settings: Settings
) -> tuple[CalibratedRanker, dict[str, OperatingPoints]]:
    """The same rankers with new calibrators, and operating points; policies without rows keep theirs."""
    calibrators = dict(old.estimator.calibrators or {})
    rows, matrix = procedure.period_rows(data, "calibrate")
    labels = rows["label"].to_numpy(bool)
    for policy in data.policies:
        mine = rows["policy"].eq(policy).to_numpy(bool)
        calibrators[policy] = fit_calibrator(old.estimator.raw_score(matrix[mine], policy), labels[mine])
    new = CalibratedRanker(old.estimator.rankers, old.estimator.factor, calibrators, old.spec.primary)
    judged = {name: procedure.score_period(new, data, name) for name in ("calibrate", "certify")}
    goal = _goal(old.spec, settings)
    points = {
        policy: procedure.choose_operating_points(
            judged["calibrate"][policy], judged["certify"][policy], goal
        )
        for policy in data.policies
    }
    new.set_params(threshold=points[data.policies[0]].f1)
    return new, points


def _goal(spec: ModelSpec, settings: Settings) -> RecallGoal:
    goal = spec.training["goal"]
    return RecallGoal(goal["target_recall"], goal["confidence"], settings.seed)


@dataclass(frozen=True)
class _EvaluatedModel:
    model: CalibratedRanker
    tested: Mapping[str, ScoredRows]
    as_of: datetime


def _spec(
    old: ModelSpec,
    run: registry.TrainingRun,
    data: TrainingData,
    points: Mapping[str, OperatingPoints],
    found: _EvaluatedModel,
    settings: Settings,
) -> ModelSpec:
    """The old spec with what is new. `data` stays: it says what the ranker knows, which triggers go by."""
    figures = {
        policy: test_metrics(data, policy, rows, points[policy], settings.seed)
        for policy, rows in found.tested.items()
    }
    certified = {policy: one.in_use for policy, one in points.items()}
    buyers = procedure.score_period(found.model, data, "certify")
    told = {
        "from": old.version,
        "as_of": iso(found.as_of),
        "days": data.split.kind,
        "periods": _periods(data),
    }
    methods = {policy: one.method for policy, one in (found.model.calibrators or {}).items()}
    return replace(
        old,
        version="",
        run_id=run.run_id,
        thresholds=old.thresholds | {policy: one.to_dict() for policy, one in points.items()},
        certificates=old.certificates
        | {name: one.certificate.to_dict() if one.certificate else None for name, one in certified.items()},
        reasons=old.reasons | {policy: one.reason for policy, one in certified.items()},
        metrics=old.metrics | {policy: one for policy, (one, _) in figures.items()},
        evaluation=old.evaluation | {policy: closer for policy, (_, closer) in figures.items()},
        reference=reference_metrics(
            found.tested[old.primary], figures[old.primary][0], points[old.primary].f1
        ),
        training=old.training | {"recalibration": told, "calibration": methods},
        certification=old.certification
        | {policy: _buyers(rows, settings.seed).to_dict() for policy, rows in buyers.items()},
        self_test=build_self_test(data, found.model),
    )


def _buyers(rows: ScoredRows, seed: int) -> BuyerScores:
    chosen = sample_row_per_buyer(rows.users, rows.labels, seed)[:MAX_STORED_BUYERS]
    return BuyerScores(np.sort(rows.probability[chosen]), np.empty(0))


def _periods(data: TrainingData) -> dict[str, dict[str, Any]]:
    described = data.split.summarize(data.labelled.rows)
    return {name: described[name] for name in RECALIBRATION_PERIODS}


def _params(spec: ModelSpec) -> dict[str, object]:
    told = spec.training["recalibration"]
    return {"recalibrated_from": told["from"], "recalibrated_as_of": told["as_of"], "days": told["days"]}


def _judge(
    old: ServedModel, tested: ScoredRows, champion: str | None, settings: Settings
) -> PromotionDecision:
    """Whether the new probabilities of the primary policy are better than the old ones."""
    version = old.spec.version
    before_ = old.estimator.calibrate(tested.raw, old.spec.primary)
    value, low, high = log_loss_improvement(tested, before_, settings.seed)
    told = (
        f"log loss {-value:+.5f} (95 % {-high:+.5f} to {-low:+.5f}) against version {version} on the same "
        f"{len(tested.labels):,} rows, base rate {tested.labels.mean():.2%}"
    )
    evidence = {
        "champion": version,
        "log_loss_gain": value,
        "interval": [low, high],
        "rows": len(tested.labels),
    }
    if old.spec.leaky:
        return PromotionDecision(False, "refused: it was trained with a column that leaks the answer", {})
    if version != champion:
        return PromotionDecision(False, f"version {version} is not in production: {told}", evidence)
    if low > 0:
        return PromotionDecision(True, f"promoted: {told}", evidence)
    return PromotionDecision(False, f"kept the champion: {told}", evidence)


def _report(
    old: ServedModel,
    spec: ModelSpec,
    decision: PromotionDecision,
    data: TrainingData,
    tested: ScoredRows,
    points: Mapping[str, OperatingPoints],
) -> RecalibrationReport:
    primary = spec.primary
    earlier = replace(tested, probability=old.estimator.calibrate(tested.raw, primary))
    return RecalibrationReport(
        version=spec.version,
        recalibrated_from=old.spec.version,
        promoted=decision.promote,
        reason=decision.reason,
        policies=data.policies,
        periods=spec.training["recalibration"]["periods"],
        before=_promises(earlier),
        after=_promises(tested),
        thresholds=points[primary].to_dict(),
        certificate=spec.certificate,
        certificate_reason=spec.reasons[primary],
    )


def _promises(rows: ScoredRows) -> dict[str, Any]:
    figures = evaluate(rows, 0.5)
    return {name: figures[name] for name in ("brier", "ece", "slope")} | {
        "mean_probability": float(rows.probability.mean()),
        "base_rate": figures["base_rate"],
        "n": figures["n"],
    }
