"""Model cards state what a person must know before relying on a version."""

from __future__ import annotations

from datetime import UTC, datetime

from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.evaluation.metrics import evaluate
from retail_core.model.spec import ModelSpec
from retail_core.registry.model_card import METRIC_TITLES, model_card
from tests.scored_rows import detail_metrics, scored_rows


def test_card_states_population_period_metrics_and_limitations() -> None:
    rows = scored_rows(2_000, 4)
    metrics = evaluate(rows, 0.2) | {
        "population": "users with an event in the 7 days before the cut-off",
        "first_cutoff": "2025-02-01T00:00:00Z",
        "last_cutoff": "2025-02-05T00:00:00Z",
    }
    lead = {"ap": 0.2, "lead": 0.01, "low": -0.01, "high": 0.03}
    spec = ModelSpec(
        version="3",
        run_id="r",
        trained_at=datetime(2025, 3, 1, tzinfo=UTC),
        feature_set=default_feature_set(PredictionTask()),
        policies=("daily",),
        thresholds={"daily": {"f1": 0.2, "contact": 0.01}},
        certificates={"daily": None},
        reasons={"daily": "too few buyers"},
        metrics={"daily": metrics},
        reference={},
        data={"data_hash": "d1", "as_of": "2025-03-01T00:00:00Z", "events": 9, "rows": 8},
        training={"family": "rf", "best_params": {"max_depth": 8}, "search": {"compared": {"rf": lead}}},
        evaluation={"daily": detail_metrics(rows)},
    )
    card = model_card(spec)
    for text in (
        *METRIC_TITLES.values(),
        "version 3",
        "base rate",
        "too few buyers",
        "sex: f",
        "2025-01-01",
        "d1",
    ):
        assert text in card
    assert "+0.0100 (-0.0100 to +0.0300)" in card
    assert "None" not in card
    assert "nan" not in card
