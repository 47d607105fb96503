"""An overconfident champion is recalibrated on newer days; its rankers stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from retail_core.cli.app import app
from retail_core.errors import DataError
from retail_core.ingest import ingest
from retail_core.model.calibration import Calibrator
from retail_core.model.procedure import RecallGoal
from retail_core.model.served_model import ServedModel
from retail_core.registry import promotion
from retail_core.registry import versions as registry
from retail_core.registry.runs import RunLabel, training_run
from retail_core.registry.versions import load_version
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.sources import get_preset
from retail_core.store.mongo.connection import open_store
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.training.recalibration import RecalibrationReport, recalibrate
from retail_core.training.recalibration_fit import fit_recalibration
from retail_core.training.recalibration_rows import RECALIBRATION_PERIODS, build_recalibration_data
from retail_core.training.version_spec import build_self_test
from retail_core.workspace import Workspace
from tests.home_copies import copy_registry, new_database_name

pytestmark = pytest.mark.integration

TRAINED, AS_OF = datetime(2025, 2, 1, tzinfo=UTC), datetime(2025, 2, 18, tzinfo=UTC)


@dataclass
class Shop:
    """`honest` was trained; `bold`, with log odds one higher, was promoted and recalibrated."""

    workspace: Workspace
    settings: Settings
    honest: str
    bold: str
    report: RecalibrationReport


@pytest.fixture(scope="module")
def shop(
    mongod_uri: str, empty_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    home, database = tmp_path_factory.mktemp("recalibrated"), new_database_name()
    copy_registry(empty_registry, home)
    settings = Settings(
        home=home, mongodb_uri=mongod_uri, mongodb_database=database, search_rows=2_000, fit_rows=6_000
    )
    simulate(SimulationConfig(users=900, days=50, seed=5, start=date(2025, 1, 1)), home / "log.csv", None)
    with open_store(settings) as store:
        ingest(store, [home / "log.csv"], get_preset("canonical"), at=AS_OF)
        workspace = Workspace.synchronized(store)
        options = TrainOptions(policies=("daily",), model="logistic", reason="test")
        honest = train(workspace, as_of=TRAINED, options=options).version
        bold = register_bold(workspace, load_version(settings, honest))
        promotion.promote(store, bold, promotion.Author("test"))
        report = recalibrate(workspace, version=None, as_of=AS_OF)
        yield Shop(workspace, settings, honest, bold, report)
        store.client.drop_database(database)


def register_bold(workspace: Workspace, model: ServedModel) -> str:
    data = build_recalibration_data(workspace, model.spec, AS_OF)
    calibrator = (model.estimator.calibrators or {})["daily"]
    model.estimator.set_params(
        calibrators={"daily": Calibrator("bold", calibrator.scores, calibrator.values + 1.0)}
    )
    with training_run(workspace.settings, RunLabel("test")) as run:
        spec = replace(
            model.spec, version="", run_id=run.run_id, self_test=build_self_test(data, model.estimator)
        )
        return registry.log_and_register(
            workspace.settings, registry.Candidate(spec, model.estimator, None, {}, None, [])
        ).version


def test_better_calibrated_probabilities_are_promoted(shop: Shop) -> None:
    report = shop.report
    assert report.recalibrated_from == shop.bold
    assert report.promoted, report.reason
    assert registry.production_version(shop.settings) == report.version
    assert report.reason.startswith("promoted: log loss -")
    assert report.after["ece"] < report.before["ece"] / 2
    assert report.before["mean_probability"] > 1.8 * report.before["base_rate"]
    assert report.after["mean_probability"] == pytest.approx(report.after["base_rate"], rel=0.4)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_rankers_and_data_stay_and_the_version_names_its_source(shop: Shop) -> None:
    old, new = (load_version(shop.settings, version) for version in (shop.bold, shop.report.version))
    rows = np.random.default_rng(1).gamma(1, 2, (50, len(old.spec.feature_set.columns)))
    assert np.array_equal(old.estimator.raw_score(rows), new.estimator.raw_score(rows))
    assert not np.allclose(
        old.predict_rows(rows, "daily").probability, new.predict_rows(rows, "daily").probability
    )
    assert new.spec.training["recalibration"]["from"] == shop.bold
    assert new.spec.tags()["recalibrated_from"] == shop.bold
    assert new.spec.data == old.spec.data, "what the ranker has seen is what the triggers go by"
    assert new.spec.metrics["daily"]["first_cutoff"] > old.spec.data["as_of"]
    assert new.spec.thresholds["daily"] == shop.report.thresholds


def test_rows_are_later_than_the_training_data_and_the_newest_days_are_judged(shop: Shop) -> None:
    spec = registry.version_spec(shop.settings, shop.honest)
    rows = build_recalibration_data(shop.workspace, spec, AS_OF).rows
    assert rows["as_of"].min() >= TRAINED
    earlier, judged = (rows[rows["period"].eq(name)] for name in RECALIBRATION_PERIODS)
    assert earlier["as_of"].max() < judged["as_of"].min()
    assert judged["as_of"].nunique() >= 2
    assert len(earlier) + len(judged) == len(rows)


def test_promised_equals_observed_after_the_odds_of_buying_fell(shop: Shop) -> None:
    """What is served is fitted on the newest days, what is judged saw no later day."""
    bold = load_version(shop.settings, shop.bold)
    data = build_recalibration_data(shop.workspace, bold.spec, AS_OF)
    days = data.rows["as_of"]
    fallen = (days >= AS_OF - timedelta(days=8)).to_numpy(bool)
    lost = np.random.default_rng(1).random(len(data.rows)) > 0.4
    rows = data.rows.assign(label=data.rows["label"] & ~(fallen & lost))
    known = (days < AS_OF - timedelta(days=4)).to_numpy(bool)
    goal = RecallGoal(0.95, 0.95, 1)
    until_then = replace(data, rows=rows[known].reset_index(drop=True), matrix=data.matrix[known])
    fit = fit_recalibration(bold.estimator, until_then, goal)
    future = rows[~known]
    promised = fit.model.probability(data.matrix[~known], "daily").sum()
    observed = int(future["label"].sum())
    assert abs(promised - observed) < 2.5 * observed**0.5 + 0.1 * observed, (promised, observed)
    assert bold.estimator.probability(data.matrix[~known], "daily").sum() > 2 * promised
    changed = rows.assign(label=rows["label"] ^ (days >= days.max()))
    later = fit_recalibration(bold.estimator, replace(data, rows=changed), goal).judged_rows["daily"]
    unchanged = fit_recalibration(bold.estimator, replace(data, rows=rows), goal).judged_rows["daily"]
    np.testing.assert_array_equal(later.probability, unchanged.probability)


def test_calibrated_champion_stays(shop: Shop) -> None:
    champion_report = recalibrate(shop.workspace, version=None, as_of=AS_OF)
    assert not champion_report.promoted
    assert champion_report.reason.startswith("kept the champion: log loss")
    assert registry.production_version(shop.settings) == shop.report.version
    earlier_report = recalibrate(shop.workspace, version=shop.honest, as_of=AS_OF)
    assert not earlier_report.promoted
    assert "is not in production" in earlier_report.reason


def test_too_few_later_buyers_are_refused(shop: Shop) -> None:
    with pytest.raises(DataError, match=r"rows of buyers are later than 2025-02-01"):
        recalibrate(shop.workspace, version=shop.honest, as_of=datetime(2025, 2, 3, tzinfo=UTC))


def test_on_the_command_line(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAIL_HOME", str(shop.settings.home))
    monkeypatch.setenv("RETAIL_MONGODB_DATABASE", shop.settings.mongodb_database)
    assert shop.settings.mongodb_uri is not None
    monkeypatch.setenv("RETAIL_MONGODB_URI", shop.settings.mongodb_uri.get_secret_value())
    recalibrated = run_cli("recalibrate", shop.bold, "--as-of", "2025-02-18T00:00:00Z")
    assert recalibrated["recalibrated_from"] == shop.bold
    assert int(recalibrated["version"]) > int(shop.report.version)
    assert not recalibrated["promoted"], "it is not the one in production"
    for command, version, production in [
        (("show", shop.honest), shop.honest, shop.report.version),
        (("promote", shop.honest), shop.honest, shop.honest),
        (("rollback",), shop.report.version, shop.report.version),
    ]:
        output = run_cli(*command)
        assert (output["version"], output["production"]) == (version, production)
        assert output["versions"][0]["version"] == recalibrated["version"]
        assert "_id" not in output


def run_cli(*command: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["models", *command, "--json"])
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content
