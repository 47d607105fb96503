"""A training is repeated on exactly its rows, with equal results, or the reason why not is given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retail_core.cli.app import app
from retail_core.ingest import ingest
from retail_core.model.spec import ModelSpec
from retail_core.privacy.erasure import erase
from retail_core.registry import versions as registry
from retail_core.settings import Settings
from retail_core.sources import get_preset
from retail_core.store.lake import merging, table
from retail_core.store.lake.table import sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.training.reproduction import reproduce
from retail_core.training.software import Software
from retail_core.workspace import Workspace
from tests.home_copies import drop_database
from tests.serving import AS_OF, Shop, environment

pytestmark = [pytest.mark.integration, pytest.mark.long]

OPTIONS = TrainOptions(policies=("daily",), model="logistic")
NOW = datetime.now(UTC)


@pytest.fixture
def store(trained_template: Shop, tmp_path: Path) -> Iterator[Store]:
    """A copy of the shop whose version 1 has been trained."""
    copy = trained_template.copy(tmp_path / "home")
    with open_store(copy.settings) as opened:
        yield opened
    drop_database(copy.settings)


def ingest_more(store: Store, name: str = "more") -> None:
    """One event on every day of the log, and one on a day after it."""
    path = store.settings.home_dir.parent / f"{name}.csv"
    days = [AS_OF - timedelta(days=day) for day in range(-1, 27)]
    rows = [f"{name},{day:%Y-%m-%dT12:00:00Z},view_item,i1" for day in days]
    path.write_text("\n".join(["user_id,event_time,event_type,item_id", *rows]) + "\n")
    ingest(store, [path], get_preset("canonical"), at=NOW)


@pytest.fixture
def quick_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each synchronization writes its days anew and deletes the files it replaces."""
    monkeypatch.setattr(merging, "FILES_PER_DAY", 1)
    monkeypatch.setattr(table, "KEPT_HOURS", 0)


def spec_of(store: Store, version: str = "1") -> ModelSpec:
    return registry.version_spec(store.settings, version)


@pytest.mark.usefixtures("quick_deletion")
def test_a_training_during_a_sync_and_a_vacuum_is_reproduced_bit_for_bit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(store)
    before = Workspace(store).lake.hashes(AS_OF)

    def sync_meanwhile(stage: str, done: int, _total: int) -> None:
        if stage in {"rows", "leakage"} and done == 0:
            ingest_more(store, stage)
            sync(store)

    report = train(Workspace(store), as_of=AS_OF, options=OPTIONS, progress=sync_meanwhile)
    spec = spec_of(store, report.version)
    assert spec.data["tables"] == {name: version.to_dict() for name, version in before.tables.items()}
    assert spec.data["data_hash"] == before.data_hash
    assert Workspace(store).lake.hashes(AS_OF).data_hash != before.data_hash
    ingest_more(store, "later")
    sync(store)
    for name, value in environment(store.settings).items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        outcome = CliRunner().invoke(app, ["models", "reproduce", report.version, "--json"])
        assert outcome.exit_code == 0, outcome.output
        printed = json.loads(outcome.stdout)
        assert (printed["equal"], printed["origin"], printed["max_difference"]) == (True, "lake", 0.0)
        assert printed["rows"] == report.metrics["n"]
        assert printed["reason"].endswith("thresholds and certificates are equal bit for bit")
    assert [version.version for version in registry.list_versions(store.settings)] == ["2", "1"]
    assert registry.production_version(store.settings) == "1"


def test_the_version_of_the_rows_is_logged_with_the_model(store: Store) -> None:
    from mlflow import MlflowClient

    spec = spec_of(store)
    (version,) = spec.data["tables"].values()
    client = MlflowClient(store.settings.tracking_uri)
    run = client.get_run(spec.run_id)
    (logged,) = run.inputs.dataset_inputs
    dataset = logged.dataset
    assert (dataset.name, dataset.digest, dataset.source_type) == (
        "events",
        spec.data["data_hash"],
        "delta_table",
    )
    assert json.loads(dataset.source) == {
        "path": "lake/events",
        "delta_table_version": version["version"],
    }
    profile = json.loads(dataset.profile)
    assert profile["rows"] == version["rows"] == store.events.count_documents({})
    assert profile["users"] == spec.training["eligible"]["users"]
    assert profile["rows_with_purchase"] == spec.training["eligible"]["positives"]
    assert profile["first_cutoff"] < profile["last_cutoff"] < profile["as_of"]
    assert run.data.tags["lake_versions"] == f"events={version['version']}"
    assert run.data.tags["release"] == spec.training["software"]["release"]
    assert Software.from_dict(spec.training["software"]) == Software.of_this_process()
    card = Path(client.download_artifacts(spec.run_id, "model_card.md")).read_text()
    assert f"| versions of the lake's tables | events {version['version']}, {version['rows']} rows |" in card


def test_after_the_retention_the_rows_are_those_of_the_ledger_windows(store: Store) -> None:
    ingest_more(store)
    shutil.rmtree(store.settings.lake_url)
    sync(store)
    reproduced = reproduce(store, "1", at=spec_of(store).trained_at + timedelta(days=31))
    assert reproduced.equal, reproduced.reason
    assert (reproduced.origin, reproduced.max_difference) == ("mongodb", 0.0)
    assert "rows from MongoDB, because the retention of 30 days is over since" in reproduced.reason


@pytest.mark.parametrize("change", ["erasure", "retention", "rebuild"])
def test_rows_that_are_gone_are_the_reason(store: Store, change: str) -> None:
    spec, at = spec_of(store), NOW
    user = str(store.events.find_one({}, sort=[("event_time", 1)])["user_id"])  # type: ignore[index]
    count = store.events.count_documents({"user_id": user})
    if change == "erasure":
        erase(store, user)
        reason = f"1 user id was erased since {spec.trained_at:%Y-%m-%dT%H:%M}"
    else:
        shutil.rmtree(store.settings.lake_url)
        store.events.delete_many({"user_id": user})
        sync(store)
        at = spec.trained_at + timedelta(days=31 if change == "retention" else 1)
        reason = "the lake was rebuilt or replaced since"
        if change == "retention":
            reason = f"retention of 30 days is over since {spec.trained_at + timedelta(days=30):%Y-%m-%d}"
    reproduced = reproduce(store, "1", at=at)
    assert (reproduced.equal, reproduced.origin, reproduced.max_difference) == (False, None, None)
    assert reason in reproduced.reason
    rows = spec.data["tables"]["events"]["rows"]
    assert f"{rows - count:,} of {rows:,} rows of events" in reproduced.reason
    assert "\n" not in reproduced.reason


def test_what_was_not_recorded_is_the_reason(registered: Settings) -> None:
    with open_store(registered) as store:
        reproduced = reproduce(store, "1", at=NOW)
    assert not reproduced.equal
    assert reproduced.reason == ("version 1 was trained by a release that did not record which rows it read")


def test_other_packages_are_the_reason_for_other_results(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored version is of another release whose trees had another seed."""
    spec = spec_of(store)
    request = spec.training["request"]
    request = request | {"settings": request["settings"] | {"seed": 8}}
    software = spec.training["software"] | {"packages": {"scikit-learn": "0.1"}, "release": "0.2.0"}
    changed = replace(spec, training=spec.training | {"request": request, "software": software})
    served = registry.load_version(store.settings, "1")
    served.spec = changed
    monkeypatch.setattr(registry, "load_version", lambda settings, version: served)
    reproduced = reproduce(store, "1", at=NOW)
    assert not reproduced.equal
    assert reproduced.max_difference
    assert "test rows differ by up to" in reproduced.reason
    assert "scikit-learn" in reproduced.reason
    assert "instead of 0.1" in reproduced.reason
