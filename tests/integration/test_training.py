"""Training on a simulated shop with a real MongoDB, lake and MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retail_core.errors import DataError, InputError
from retail_core.features.batch.batch_interpreter import compute_features
from retail_core.features.cutoffs.policies import daily_pairs
from retail_core.features.prediction_task import PredictionTask
from retail_core.ingest import ingest
from retail_core.model import dataset, procedure
from retail_core.model.families import MODEL_FAMILIES, RankerConfig
from retail_core.model.labelled import build_labelled_rows
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_spec
from retail_core.registry.promotion_record import history
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.sources import get_preset
from retail_core.store.mongo.connection import open_store
from retail_core.training.champion_comparison import compare_with_champion, decide_promotion
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import STAGES, train
from retail_core.training.results import TrainReport
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.home_copies import copy_registry, new_database_name

pytestmark = pytest.mark.integration

AS_OF = datetime(2025, 2, 1, tzinfo=UTC)


@dataclass
class Shop:
    """A shop whose first model was trained as of `AS_OF`, though its log goes on for three days."""

    workspace: Workspace
    report: TrainReport
    stages: list[str]


@pytest.fixture(scope="module")
def shop(
    mongod_uri: str, empty_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("shop")
    copy_registry(empty_registry, home)
    settings = Settings(
        home=home,
        mongodb_uri=mongod_uri,
        mongodb_database=new_database_name(),
        search_rows=3_000,
        fit_rows=6_000,
    )
    simulate(SimulationConfig(users=900, days=34, seed=5, start=date(2025, 1, 1)), home / "log.csv", None)
    with open_store(settings) as store:
        ingest(store, [home / "log.csv"], get_preset("canonical"), at=AS_OF)
        workspace = Workspace.synchronized(store)
        stages: list[str] = []
        options = TrainOptions(policies=("daily", "first-visit"), reason="test")
        report = train(
            workspace,
            as_of=AS_OF,
            options=options,
            progress=lambda stage, _done, _total: stages.append(stage),
        )
        yield Shop(workspace, report, stages)
        store.client.drop_database(settings.mongodb_database)


def test_report_states_metrics_population_and_period(shop: Shop) -> None:
    report = shop.report.to_dict()
    assert json.loads(json.dumps(report)) == report
    assert (report["promoted"], report["reason"]) == (True, "promoted: there is no champion")
    metrics = report["metrics"]
    assert set(metrics) >= {
        "ap", "auc", "f1", "recall", "precision", "brier", "ece", "base_rate", "n", "positives",
        "population", "first_cutoff", "last_cutoff", "open_cart_ap",
    }  # fmt: skip
    assert metrics["ap"] > 3 * metrics["base_rate"]
    assert metrics["ap_low"] <= metrics["ap"] <= metrics["ap_high"]
    assert set(report["by_policy"]) == {"daily", "first-visit"}
    assert report["split"] == "successive"
    assert report["best_params"].keys() == MODEL_FAMILIES[report["family"]].grid.keys()
    assert report["search"]["compared"].keys() == {*MODEL_FAMILIES, "open cart"}
    assert report["eligible"]["eligible_days"] == 7
    assert (report["certificate"] is None) == (report["certificate_reason"] is not None)
    assert list(dict.fromkeys(shop.stages)) == list(STAGES)


def test_only_labels_known_at_as_of_were_used(shop: Shop) -> None:
    last = datetime.fromisoformat(shop.report.eligible["last_cutoff"])
    assert last == AS_OF - timedelta(days=1)
    task = PredictionTask.from_settings(shop.workspace.settings, "UTC")
    for policy in ("daily", "first-visit"):
        rows = build_labelled_rows(shop.workspace.lake, task, (policy,), AS_OF).rows
        assert (rows["as_of"] + task.horizon <= pd.Timestamp(AS_OF)).all()
        assert rows["policy"].eq(policy).all()


def events_before(shop: Shop, as_of: datetime) -> int:
    return shop.workspace.store.events.count_documents({"event_time": {"$lt": as_of}})


def test_champion_is_the_registered_version(shop: Shop) -> None:
    served = champion_of(shop.workspace.settings)
    spec = served.spec
    assert (spec.version, spec.run_id) == (shop.report.version, shop.report.run_id)
    assert spec.thresholds["daily"]["contact"] == shop.report.threshold
    lowest = spec.certification["daily"]
    assert spec.thresholds["daily"]["no-miss"] == min(lowest["held_out"] + lowest["cross_fitted"])
    assert spec.thresholds["daily"]["no-miss"] < spec.thresholds["daily"]["contact"]
    lake_state = shop.workspace.lake.state(AS_OF, hashed=True)
    assert lake_state.rows == events_before(shop, AS_OF) < shop.workspace.lake.state().rows
    assert (spec.data["events"], spec.data["data_hash"]) == (lake_state.rows, lake_state.data_hash)
    assert spec.data["last_event"] < spec.data["as_of"] == "2025-02-01T00:00:00Z"
    assert spec.reference["f1"] == shop.report.metrics["f1"]
    assert champion_spec(shop.workspace.store) == spec
    assert registry.list_versions(shop.workspace.settings)[-1] == spec, "the first version of the shop"
    (entry,) = history(shop.workspace.store)
    assert entry["at"] > spec.trained_at, "when it was promoted, not when the training began"
    assert (entry["version"], entry["data_hash"]) == (spec.version, spec.data["data_hash"])
    from mlflow import MlflowClient

    client = MlflowClient(shop.workspace.settings.tracking_uri)
    pictures = {artifact.path for artifact in client.list_artifacts(spec.run_id, "plots")}
    assert pictures == {
        f"plots/{name}.png"
        for name in ("precision_recall", "calibration", "gains", "confusion", "importance")
    }
    cells = sum(math.prod(map(len, family.grid.values())) for family in MODEL_FAMILIES.values())
    runs = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{spec.run_id}'")
    assert len(runs) == cells, "every cell of the grid is a run"


def test_single_and_batch_predictions_are_equal(shop: Shop) -> None:
    served = champion_of(shop.workspace.settings)
    pairs = daily_pairs(shop.workspace.lake, served.spec.feature_set.task, [AS_OF])
    frame = compute_features(shop.workspace.lake, pairs, served.spec.feature_set)
    together = served.predict(frame, "daily")
    alone = pd.concat([served.predict(frame.iloc[[row]], "daily") for row in range(0, len(frame), 25)])
    pd.testing.assert_frame_equal(alone, together.iloc[::25], check_exact=True)
    assert together["probability"].between(0, 1, inclusive="neither").all()
    assert abs(together["probability"].mean() / shop.report.metrics["base_rate"] - 1) < 0.6


def test_equal_challenger_does_not_replace_the_champion(shop: Shop) -> None:
    options = TrainOptions(policies=("daily", "first-visit"), model=shop.report.family)
    report = train(shop.workspace, as_of=AS_OF, options=options)
    assert not report.promoted
    assert report.reason.startswith("kept the champion: AP ")
    assert report.gate["evidence"]["rows_later_than_champion"] is False
    assert registry.production_version(shop.workspace.settings) == shop.report.version


def test_a_log_whose_purchases_stop_is_refused_with_the_period_that_has_none(settings: Settings) -> None:
    log = Path(__file__).parents[1] / "fixtures" / "purchases_stop.csv.gz"
    with open_store(settings) as store:
        ingest(store, [log], get_preset("canonical"), at=AS_OF)
        with pytest.raises(
            DataError, match=r"calibrate period \(cut-offs 2025-01-1.* has no buyer"
        ) as caught:
            train(Workspace.synchronized(store), as_of=datetime(2025, 1, 15, tzinfo=UTC))
    assert "RETAIL_ELIGIBLE_DAYS" in caught.value.remedy


def test_leaky_challenger_is_refused_whatever_it_scores(shop: Shop) -> None:
    options = TrainOptions(policies=("daily",), model="logistic", allow_leak=("hours_since_event",))
    report = train(shop.workspace, as_of=AS_OF, options=options)
    assert not report.promoted
    assert "leaks the label" in report.reason
    assert registry.version_spec(shop.workspace.settings, report.version).leaky


@pytest.mark.parametrize(
    ("change", "as_of", "message"),
    [
        ({"min_buyers": 10_000}, AS_OF, r"only \d+ purchases by \d+ users .* at least 10000"),
        ({}, datetime(2020, 1, 1, tzinfo=UTC), "No user has a cut-off whose 24 hours have passed"),
    ],
)
def test_too_little_data_is_refused_with_its_numbers(
    shop: Shop, change: dict[str, int], as_of: datetime, message: str
) -> None:
    changed = shop.workspace.settings.model_copy(update=change)
    with pytest.raises(DataError, match=message):
        train(Workspace(replace(shop.workspace.store, settings=changed)), as_of=as_of)


def test_uncertifiable_requested_recall_is_refused_before_the_search(shop: Shop) -> None:
    options = TrainOptions(target_recall=0.999, must_certify=True)
    with pytest.raises(DataError, match=r"Recall 0\.999 at 95% cannot be certified: .* buyers") as refused:
        train(shop.workspace, as_of=AS_OF, options=options)
    assert "--target-recall 0.9" in str(refused.value.remedy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TrainOptions(model="xgboost"), "no model family 'xgboost'"),
        (TrainOptions(policies=("hourly",)), "no cut-off policy 'hourly'"),
        (TrainOptions(target_recall=1.2), "is out of range"),
    ],
)
def test_invalid_options_are_refused(shop: Shop, options: TrainOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(shop.workspace, as_of=AS_OF, options=options)


def test_short_log_with_recall_one_states_the_certified_bound(shop: Shop) -> None:
    """Ten days of log: users are assigned by hash; recall 1.0 is never an error and states its bound."""
    as_of = datetime(2025, 1, 12, tzinfo=UTC)
    task = PredictionTask.from_settings(shop.workspace.settings, "UTC")
    labelled = build_labelled_rows(shop.workspace.lake, task, ("daily",), as_of)
    data = dataset.build_training_data(
        shop.workspace.lake, labelled, task, shop.workspace.settings, as_of=as_of
    )
    assert data.split.kind == "user-disjoint"
    best = RankerConfig("rf", {"n_estimators": 20, "max_depth": 6, "min_samples_leaf": 10})
    model = procedure.fit_evaluation_model(data, best, 1)
    goal = procedure.RecallGoal(1.0, 0.95, 1)
    calibrate, certify = (
        procedure.score_period(model, data, name)["daily"] for name in ("calibrate", "certify")
    )
    points = procedure.choose_operating_points(calibrate, certify, goal)
    assert points.in_use.threshold == certify.probability[certify.labels].min() or points.in_use.certificate
    assert points.in_use.certificate is not None
    assert points.in_use.certificate.lower_bound < 1
    served = procedure.refit_for_serving(data, best, {"daily": points}, goal)
    everybody = served.model.probability(data.matrix, "daily")
    contacted = everybody[data.rows["refit"]] >= served.thresholds["daily"]["contact"]
    assert contacted.mean() >= np.mean(certify.probability >= points.in_use.threshold) - 0.001
    weights = data.refit_sampling.weights(data.rows["label"].to_numpy(bool))[data.rows["refit"]]
    mean = np.average(everybody[data.rows["refit"]], weights=weights)
    assert mean == pytest.approx(data.labelled.rows["label"].mean(), rel=0.25)


def test_challenger_for_another_task_does_not_replace_the_champion(shop: Shop) -> None:
    task = PredictionTask.from_settings(shop.workspace.settings, "UTC")
    labelled = build_labelled_rows(shop.workspace.lake, task, ("daily",), datetime(2025, 1, 12, tzinfo=UTC))
    daily = dataset.build_training_data(
        shop.workspace.lake, labelled, task, shop.workspace.settings, as_of=labelled.known_until
    )
    config = RankerConfig("logistic", {"C": 0.1})
    longer = replace(daily, task=replace(task, horizon_hours=48))
    for data, difference in [
        (longer, "another question: horizon_hours 48 instead of 24"),
        (daily, "no cut-off policy first-visit"),
    ]:
        decision = decide_promotion(compare_with_champion(shop.workspace, data, config), leaky=False, seed=1)
        assert not decision.promote
        assert decision.reason.startswith("kept the champion: it ")
        assert difference in decision.reason
        assert "retail models promote" in decision.reason
