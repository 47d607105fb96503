"""What is stored with a version: its specification, self-test rows and MLflow parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from retail_core.model.dataset import TrainingData
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.evaluation.metrics import ScoredRows
from retail_core.model.feature_matrix import MISSING
from retail_core.model.leakage import LeakageReport
from retail_core.model.procedure import period_rows
from retail_core.model.spec import ModelSpec
from retail_core.model.usual_context import usual_context
from retail_core.registry.runs import TrainingRun
from retail_core.store.lake.reader import LakeState
from retail_core.store.lake.table_version import TableVersion
from retail_core.times import iso
from retail_core.training.attempts import AttemptData
from retail_core.training.results import TrainingResult, summarize_population
from retail_core.training.software import Software
from retail_core.training.training_request import TrainingRequest

SELF_TEST_ROWS = 5


@dataclass(frozen=True)
class TrainingInputs:
    """What a training has read, and what determines it besides.

    Attributes:
        data: rows and features.
        leakage: report of the leakage guard; columns allowed by name mark the version as leaky.
        request: what was asked for.
        lake: state of the lake at the requested `as_of`, with its hash.
        tables: the version of each table of the lake, by name.
        software: the release and the packages that train.
    """

    data: TrainingData
    leakage: LeakageReport
    request: TrainingRequest
    lake: LakeState
    tables: Mapping[str, TableVersion]
    software: Software

    @property
    def attempt_data(self) -> AttemptData:
        """What the record of the attempt says of them."""
        return AttemptData(self.lake.rows, self.lake.data_hash, self.data.feature_set.hash)


def build_spec(inputs: TrainingInputs, result: TrainingResult, run: TrainingRun) -> ModelSpec:
    """The specification of the served model, not yet registered.

    Args:
        inputs: what was read and asked for.
        result: fitted models, metrics and thresholds.
        run: the MLflow run.
    """
    data, lake = inputs.data, inputs.lake
    primary = data.policies[0]
    certified = {policy: result.points[policy].in_use for policy in data.policies}
    return ModelSpec(
        version="",
        run_id=run.run_id,
        trained_at=datetime.fromtimestamp(run.started_ms / 1000, UTC),
        feature_set=data.feature_set,
        policies=data.policies,
        thresholds=result.served.thresholds,
        certificates={
            policy: point.certificate.to_dict() if point.certificate else None
            for policy, point in certified.items()
        },
        reasons={policy: point.reason for policy, point in certified.items()},
        metrics=result.metrics,
        evaluation=result.detail_metrics,
        reference=reference_metrics(result.test[primary], result.metrics[primary], result.points[primary].f1),
        data={
            "rows": len(data.labelled.rows),
            "events": lake.rows,
            "data_hash": lake.data_hash,
            "last_event": iso(lake.last_event) if lake.last_event else None,
            "as_of": iso(data.labelled.known_until),
            "tables": {name: version.to_dict() for name, version in inputs.tables.items()},
        },
        training=_training_facts(data, result)
        | {
            "leakage": inputs.leakage.to_dict(),
            "request": inputs.request.to_dict(),
            "software": inputs.software.to_dict(),
        },
        certification={policy: buyers.to_dict() for policy, buyers in result.served.buyers.items()},
        self_test=build_self_test(data, result.served.model),
        leaky=bool(inputs.leakage.allowed),
    )


def flat_params(data: TrainingData, result: TrainingResult, spec: ModelSpec) -> dict[str, object]:
    """Parameters of the MLflow run."""
    periods = {
        f"{name}.{key}": value
        for name, period in spec.training["periods"].items()
        for key, value in period.items()
    }
    return {
        **result.search.best_params,
        **{f"search.{name}": value for name, value in result.search.to_dict().items() if name != "compared"},
        **{f"question.{name}": value for name, value in asdict(data.task).items()},
        **periods,
        **{f"data.{name}": value for name, value in spec.data.items() if name != "tables"},
        "family": result.search.config.family,
        "split": data.split.kind,
        "features": len(data.feature_set.columns),
        "feature_set_hash": data.feature_set.hash,
        "fit_negative_rate": data.fit_sampling.negative_rate,
        "refit_negative_rate": data.refit_sampling.negative_rate,
    }


def _training_facts(data: TrainingData, result: TrainingResult) -> dict[str, Any]:
    calibrators = result.served.model.calibrators or {}
    return {
        "family": result.search.config.family,
        "best_params": result.search.best_params,
        "search": result.search.to_dict(),
        "goal": asdict(result.goal),
        "split": data.split.kind,
        "periods": data.split.summarize(data.labelled.rows),
        "sampling": {"fit": asdict(data.fit_sampling), "refit": asdict(data.refit_sampling)},
        "calibration": {policy: calibrator.method for policy, calibrator in calibrators.items()},
        "evaluation_thresholds": {policy: points.to_dict() for policy, points in result.points.items()},
        "gaps": [str(day) for day in data.labelled.gaps],
        "quiet_days": [str(day) for day in data.labelled.quiet_days],
        "dropped_features": list(data.dropped),
        "eligible": summarize_population(data),
        "usual_context": usual_context(data.rows, data.matrix, data.feature_set),
    }


def reference_metrics(rows: ScoredRows, metrics: dict[str, Any], f1_threshold: float) -> dict[str, float]:
    """Metrics of the test rows that live quality is compared with."""
    selected = rows.probability >= f1_threshold
    non_buyers = max(1, int((~rows.labels).sum()))
    return {
        "f1": float(metrics["f1"]),
        "recall": float(metrics["recall"]),
        "false_positive_rate": float((selected & ~rows.labels).sum() / non_buyers),
        "base_rate": float(metrics["base_rate"]),
        "n": int(metrics["n"]),
        "positives": int(metrics["positives"]),
    }


def build_self_test(data: TrainingData, model: CalibratedRanker) -> dict[str, Any]:
    """Rows spread over the test period, as float64 with nulls, and the served model's probabilities."""
    _, matrix = period_rows(data, "test")
    test_rows = matrix[np.linspace(0, len(matrix) - 1, SELF_TEST_ROWS).astype(int)]
    frame = pd.DataFrame(test_rows.astype(np.float64), columns=list(data.feature_set.columns))
    frame = frame.mask(test_rows == MISSING)
    probabilities = {policy: model.probability(frame, policy).tolist() for policy in model.calibrators or {}}
    rows = [[None if pd.isna(value) else float(value) for value in row] for row in frame.to_numpy()]
    return {"rows": rows, "probability": probabilities}
