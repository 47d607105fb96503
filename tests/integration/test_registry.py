"""The registry on a real MLflow, the promotion record on a real MongoDB."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from retail_core.errors import DataError, DependencyError, InputError, IntegrityError
from retail_core.features.feature_set import FeatureSet, default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.calibration import fit_calibrator
from retail_core.model.estimator import CalibratedRanker
from retail_core.model.families.random_forest import build_forest
from retail_core.model.feature_matrix import to_matrix
from retail_core.model.search import GridCell, SearchResult
from retail_core.model.served_model import MODEL_FILE, SPEC_FILE, load_served_model
from retail_core.model.spec import ModelSpec
from retail_core.monitoring.triggers import check_triggers
from retail_core.registry import promotion
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version, load_champion
from retail_core.registry.mlflow_session import open_session
from retail_core.registry.promotion import Author
from retail_core.registry.promotion_record import history
from retail_core.registry.runs import RunLabel, TrainingRun, training_run
from retail_core.registry.versions import load_version
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.subprocesses import free_port, is_reachable, start, stop, wait_until
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.home_copies import copy_registry
from tests.process_environment import without_coverage

pytestmark = pytest.mark.integration

AT = datetime(2025, 3, 1, tzinfo=UTC)
CELLS = tuple(
    GridCell({"n_estimators": trees, "max_depth": depth}, 0.3, 0.01, (0.29, 0.31), 0.1, "rf")
    for trees in (10, 20)
    for depth in (3, 4)
)
FEATURES = default_feature_set(PredictionTask()).select(
    ["cart_count", "hours_since_purchase", "event_count_1d", "weekday"]
)


@pytest.fixture
def settings(settings: Settings, empty_registry: Settings) -> Settings:
    copy_registry(empty_registry, settings.home_dir)
    return settings


def make_model(seed: int = 0) -> CalibratedRanker:
    rng = np.random.default_rng(seed)
    features = rng.gamma(1, 2, (4_000, len(FEATURES.columns)))
    labels = rng.random(4_000) < 1 / (1 + np.exp(4 - features[:, 0]))
    forest = build_forest(trees=10, depth=4, leaf=5, seed=seed).fit(to_matrix(features), labels)
    model = CalibratedRanker({"daily": forest})
    model.calibrators = {"daily": fit_calibrator(model.raw_score(features), labels)}
    return model


def make_candidate(settings: Settings, run: TrainingRun, *, leaky: bool = False) -> registry.Candidate:
    model = make_model()
    rows = [[1.0, None, 5.0, 2.0], [0.0, 30.5, 0.0, 6.0]]
    frame = pd.DataFrame(rows, columns=list(FEATURES.columns), dtype="float64")
    metrics = {"ap": 0.31, "auc": 0.8, "f1": 0.3, "base_rate": 0.04, "n": 1000, "positives": 40}
    spec = ModelSpec(
        version="",
        run_id=run.run_id,
        trained_at=datetime.fromtimestamp(run.started_ms / 1000, UTC),
        feature_set=FEATURES,
        policies=("daily",),
        thresholds={"daily": {"f1": 0.2, "recall": 0.02, "no-miss": 0.01, "contact": 0.02}},
        certificates={"daily": None},
        reasons={"daily": "too few buyers"},
        metrics={"daily": metrics | {"population": "everybody"}},
        reference={
            "f1": 0.3,
            "recall": 0.4,
            "false_positive_rate": 0.04,
            "base_rate": 0.04,
            "n": 1000,
            "positives": 40,
        },
        data={"rows": 1, "events": 2, "data_hash": "d", "last_event": None, "as_of": "2025-03-01T00:00:00Z"},
        self_test={"rows": rows, "probability": {"daily": model.probability(frame, "daily").tolist()}},
        leaky=leaky,
    )
    picture = settings.home_dir / "picture.png"
    picture.write_bytes(b"png")
    search = SearchResult(CELLS[0].config, CELLS, "scikit-learn", "2 time folds", 10, 5, 0.5, 0.1)
    return registry.Candidate(spec, model, model, {"max_depth": 3}, search, [picture])


def register(settings: Settings, *, leaky: bool = False) -> ModelSpec:
    with training_run(settings, RunLabel("test")) as run:
        return registry.log_and_register(settings, make_candidate(settings, run, leaky=leaky))


@pytest.fixture
def served(settings: Settings) -> Iterator[Settings]:
    """Settings that reach the same registry through an MLflow server."""
    folder, port = settings.home_dir / "mlflow", free_port()
    storage_options = [
        "--backend-store-uri",
        settings.tracking_uri,
        "--artifacts-destination",
        str(folder / "served"),
    ]
    command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *storage_options]
    log = settings.home_dir / "server.log"
    server = start("mlflow", command, without_coverage(os.environ), log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_reachable(f"{url}/health"), server, log)
        yield settings.model_copy(update={"mlflow_tracking_uri": url})
    finally:
        stop(server)


def _register_and_load(settings: Settings, versions: multiprocessing.Queue[str]) -> None:
    spec = register(settings)
    with open_store(settings) as store:
        promotion.promote(store, spec.version, Author("first"))
    versions.put(spec.version)
    versions.put(champion_of(settings).spec.version)


def test_a_model_is_registered_promoted_and_loaded_through_a_server(served: Settings) -> None:
    """In a separate process, because MLflow's client keeps the first address for its lifetime."""
    context = multiprocessing.get_context("spawn")
    versions: multiprocessing.Queue[str] = context.Queue()
    process = context.Process(target=_register_and_load, args=(served, versions))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    assert versions.get(timeout=10) == versions.get(timeout=10) == "1"


def test_everything_of_a_training_is_logged(settings: Settings) -> None:
    spec = register(settings)
    from mlflow import MlflowClient

    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    run = client.get_run(spec.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["ap"] == 0.31
    assert run.data.metrics["threshold_contact"] == 0.02
    assert run.data.params["max_depth"] == "3"
    assert run.data.tags["feature_set_hash"] == FEATURES.hash
    children = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{spec.run_id}'")
    assert {(entry.data.params["n_estimators"], entry.data.params["max_depth"]) for entry in children} == {
        ("10", "3"), ("10", "4"), ("20", "3"), ("20", "4"),
    }  # fmt: skip
    assert all(entry.data.metrics["mean_ap"] == 0.3 for entry in children)
    folders = {entry.path for entry in client.list_artifacts(spec.run_id)}
    assert folders >= {"plots", "search", "evaluation_model"}
    version = client.get_model_version(settings.model_name, spec.version)
    assert version.tags["leaky"] == "false"
    assert version.run_id == spec.run_id


def test_signature_is_float64_and_pyfunc_answers_probabilities(settings: Settings) -> None:
    spec = register(settings)
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(str(registry.download(settings, spec.version)))
    inputs = loaded.metadata.signature.inputs
    assert inputs.input_names() == list(FEATURES.columns)
    assert {str(kind) for kind in inputs.input_types()} == {"DataType.double"}
    frame = pd.DataFrame([[1.0, math.nan, 5.0, 2.0]], columns=list(FEATURES.columns))
    assert loaded.predict(frame)[0, 1] == pytest.approx(spec.self_test["probability"]["daily"][0], abs=1e-12)


def test_a_copied_folder_is_enough_to_serve(settings: Settings, tmp_path: Path) -> None:
    """As BentoML imports it: from the folder, without MLflow."""
    spec = register(settings)
    from mlflow.artifacts import download_artifacts

    uri = f"models:/{settings.model_name}/{spec.version}"
    with open_session(settings):
        download_artifacts(uri, dst_path=str(tmp_path / "copy"))
    served = load_served_model(tmp_path / "copy")
    assert served.spec == spec == load_version(settings, spec.version).spec
    frame = pd.DataFrame([[9.0, 1.0, 5.0, 2.0, 0.0]], columns=[*FEATURES.columns, "more"])
    answer = served.predict(frame, "in-session").iloc[0]
    assert answer["contact"] == (answer["probability"] >= 0.02)
    assert answer["will_purchase"] == (answer["probability"] >= 0.2)
    with pytest.raises(InputError, match="lack the column 'weekday'"):
        served.predict(frame.drop(columns="weekday"), "daily")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_set_hash": "0" * 32}, "other feature definitions"),
        (
            {"self_test": {"rows": [[1.0, None, 5.0, 2.0]], "probability": {"daily": [0.999]}}},
            "its own test rows",
        ),
    ],
)
def test_model_with_failing_self_test_or_changed_features_is_refused(
    settings: Settings, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    spec = register(settings)
    copy = shutil.copytree(registry.download(settings, spec.version), tmp_path / "copy")
    content = json.loads((copy / SPEC_FILE).read_text())
    (copy / SPEC_FILE).write_text(json.dumps(content | change))
    with pytest.raises(IntegrityError, match=message):
        load_served_model(copy)


def test_a_model_of_an_earlier_release_is_refused_in_words(settings: Settings, tmp_path: Path) -> None:
    """Earlier models had one ranker for all policies, under another attribute."""
    import skops.io

    spec = register(settings)
    copy = shutil.copytree(registry.download(settings, spec.version), tmp_path / "copy")
    earlier = make_model()
    earlier.ranker = vars(earlier).pop("rankers")["daily"]
    skops.io.dump(earlier, copy / MODEL_FILE)
    with pytest.raises(IntegrityError, match="earlier release"):
        load_served_model(copy)


def test_foreign_types_and_foreign_folders_are_refused(settings: Settings, tmp_path: Path) -> None:
    import skops.io

    spec = register(settings)
    copy = shutil.copytree(registry.download(settings, spec.version), tmp_path / "copy")
    skops.io.dump({"harmless": Path("/")}, copy / "model.skops")
    with pytest.raises(IntegrityError, match="cannot be read"):
        load_served_model(copy)
    with pytest.raises(InputError, match="holds no model"):
        load_served_model(tmp_path)


def test_promote_roll_back_and_the_record_of_it(store: Store, settings: Settings) -> None:
    with pytest.raises(DataError, match="no model in production"):
        load_champion(store)
    first, second, leaky = register(settings), register(settings), register(settings, leaky=True)
    assert [spec.version for spec in registry.list_versions(settings)] == ["3", "2", "1"]
    promotion.promote(store, first.version, Author("first"))
    better = promotion.PromotionDecision(
        promotion.GateVerdict.PROMOTED, "better", {"champion": "1", "ap_difference": 0.1}
    )
    promotion.promote_on(store, second.version, better)
    assert champion_of(settings).spec.version == "2"
    with pytest.raises(DataError, match="in production already"):
        promotion.promote(store, second.version, Author("again"))
    with pytest.raises(IntegrityError, match="leaks the label"):
        promotion.promote(store, leaky.version, Author("?"))
    with pytest.raises(IntegrityError, match="leaks the label"):
        registry.set_production(settings, leaky.version)
    with pytest.raises(DataError, match="no version 99"):
        promotion.promote(store, "99", Author("?"))
    stale = promotion.PromotionDecision(promotion.GateVerdict.PROMOTED, "better than 1", {"champion": "1"})
    with pytest.raises(IntegrityError, match="compared with version 1, and version 2 is in production now"):
        promotion.promote_on(store, first.version, stale)
    promotion.rollback(store, Author())
    assert registry.production_version(settings) == "1"
    with pytest.raises(DataError, match="no earlier version"):
        promotion.rollback(store, Author())
    log = history(store)
    assert [(entry["_id"], entry["kind"], entry["version"], entry["previous"]) for entry in log] == [
        (1, "promote", "1", None), (2, "promote", "2", "1"), (3, "rollback", "1", "2"),
    ]  # fmt: skip
    assert log[1]["metrics"]["daily"]["ap"] == 0.31
    assert (log[1]["data_hash"], log[1]["feature_set_hash"]) == ("d", FEATURES.hash)


def damage(settings: Settings, version: str) -> None:
    model = registry.download(settings, version) / MODEL_FILE
    content = bytearray(model.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    model.write_bytes(content)


def test_triggers_of_a_damaged_champion_are_checked(store: Store, settings: Settings) -> None:
    champion = register(settings)
    promotion.promote(store, champion.version, Author("test"))
    damage(settings, champion.version)
    checks = {check.name: check for check in check_triggers(Workspace(store), as_of=AT, at=AT)}
    assert set(checks) >= {"new_data", "performance", "calibration", "drift", "age"}
    assert checks["drift"].value is None
    assert f"version {champion.version} cannot be served" in checks["drift"].evidence


def test_a_damaged_challenger_is_refused_and_the_champion_stays(store: Store, settings: Settings) -> None:
    champion, challenger = register(settings), register(settings)
    promotion.promote(store, champion.version, Author("test"))
    damage(settings, challenger.version)
    with pytest.raises(IntegrityError, match="is damaged"):
        promotion.promote(store, challenger.version, Author("test"))
    assert registry.production_version(settings) == champion.version
    assert [entry["version"] for entry in history(store)] == [champion.version]


def test_killed_between_record_and_alias_is_repaired(store: Store, settings: Settings) -> None:
    first, second = register(settings), register(settings)
    promotion.promote(store, first.version, Author("first"))
    promotion.promote(store, second.version, Author("second"))
    registry.set_production(settings, first.version)
    assert champion_version(store) == second.version
    assert registry.production_version(settings) == second.version
    assert len(history(store)) == 2


def test_a_version_of_a_new_registry_is_not_the_promoted_one_of_its_number(
    store: Store, settings: Settings
) -> None:
    """A registry that was lost numbers its versions from 1 again."""
    promoted, new = register(settings), register(settings)
    promotion.promote(store, promoted.version, Author("test"))
    store.promotions.update_one({}, {"$set": {"version": new.version}})
    assert champion_version(store) == promoted.version
    store.promotions.update_one({}, {"$set": {"run_id": new.run_id}})
    assert champion_version(store) == new.version


def _register_in_process(home: Path, versions: multiprocessing.Queue[str]) -> None:
    versions.put(register(Settings(home=home)).version)


def test_two_processes_register_at_once(tmp_path: Path) -> None:
    """On a home without MLflow tables each process gets a version of its own."""
    context = multiprocessing.get_context("spawn")
    versions: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_register_in_process, args=(tmp_path, versions)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    assert {versions.get(timeout=10) for _ in processes} == {"1", "2"}


def test_no_server_is_one_clear_error_at_once(settings: Settings) -> None:
    away = settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    with pytest.raises(DependencyError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        registry.production_version(away)


def test_feature_set_of_another_release_is_left_out_of_the_list(settings: Settings) -> None:
    spec = register(settings)
    path = registry.download(settings, spec.version) / SPEC_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"feature_set_hash": "1" * 32}))
    assert registry.list_versions(settings) == []
    assert isinstance(replace(spec, version="7").feature_set, FeatureSet)
