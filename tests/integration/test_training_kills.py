"""Trainings that are killed at every step, run at once, or whose machine vanishes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from retail_core.errors import DataError, DependencyError, IntegrityError
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import GateVerdict
from retail_core.registry.promotion_record import history
from retail_core.settings import Settings
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.leases import new_owner
from retail_core.training.attempt_recovery import close_interrupted
from retail_core.training.attempt_run import attempt_run
from retail_core.training.attempts import (
    MAX_INTERRUPTIONS,
    AttemptData,
    AttemptKind,
    AttemptRunningError,
    AttemptState,
    NewAttempt,
    list_attempts,
    newest_attempt,
    start_attempt,
)
from tests.attempt_kills import AS_OF, KILL_POINTS, attempt, run_until_killed

pytestmark = [pytest.mark.integration, pytest.mark.long]

REGISTERED = {
    "before the model card", "after the registration", "after the promotion", "before its run ends",
}  # fmt: skip
"""Kill points after which the version exists."""


@dataclass(frozen=True)
class Registry:
    """Version 1 in production, and the entry that promoted it."""

    settings: Settings
    store: Store
    promoted: list[dict[str, Any]]


@pytest.fixture(scope="module")
def prepared(registered: Settings) -> Iterator[Registry]:
    with open_store(registered) as store:
        champion_version(store)
        yield Registry(registered, store, history(store))


@pytest.fixture
def versions(prepared: Registry) -> Registry:
    prepared.store.promotions.delete_many({})
    prepared.store.promotions.insert_many(prepared.promoted)
    prepared.store.training_attempts.delete_many({})
    registry.set_production(prepared.settings, "1")
    return prepared


def running_runs(settings: Settings) -> int:
    client = MlflowClient(settings.tracking_uri)
    return len(client.search_runs(["1"], "attributes.status = 'RUNNING'"))


def newest_version(settings: Settings) -> ModelVersion:
    client = MlflowClient(settings.tracking_uri)
    return client.get_model_version(settings.model_name, registry.version_numbers(settings)[0])


@pytest.mark.parametrize("kill_point", KILL_POINTS)
def test_a_killed_training_leaves_no_unjudged_version_and_no_running_run(
    versions: Registry, kill_point: str
) -> None:
    settings, store = versions.settings, versions.store
    numbers = registry.version_numbers(settings)
    run_until_killed(settings, GateVerdict.PROMOTED, kill_point)
    assert running_runs(settings) == 1
    assert len(close_interrupted(store)) == 1
    assert close_interrupted(store) == []
    assert running_runs(settings) == 0
    added = set(registry.version_numbers(settings)) - set(numbers)
    assert len(added) == (kill_point in REGISTERED)
    attempts = list_attempts(store)
    if not added:
        assert [done.state for done in attempts] in ([], [AttemptState.KILLED])
        assert champion_version(store) == "1"
        assert newest_attempt(store) is None, "nothing was learned from these data"
        return
    version = newest_version(settings)
    assert version.tags["verdict"] == "promoted"
    assert version.description == "promoted: AP"
    (done,) = attempts
    number = str(version.version)
    assert (done.state, done.verdict, done.version) == (AttemptState.FINISHED, "promoted", number)
    assert champion_version(store) == number
    assert [entry["version"] for entry in history(store)] == ["1", number]
    client = MlflowClient(settings.tracking_uri)
    assert "model_card.md" in {entry.path for entry in client.list_artifacts(done.run_id)}
    assert client.get_run(done.run_id).info.status == "FINISHED"


def test_a_version_whose_promotion_came_too_late_says_so(versions: Registry) -> None:
    run_until_killed(versions.settings, GateVerdict.PROMOTED, "after the registration")
    versions.store.training_attempts.update_one({}, {"$set": {"evidence.champion": "another"}})
    close_interrupted(versions.store)
    (done,) = list_attempts(versions.store)
    assert (done.state, done.verdict) == (AttemptState.FAILED, "refused")
    assert newest_version(versions.settings).tags["verdict"] == "refused"
    assert champion_version(versions.store) == "1"


def test_verdict_and_figures_are_on_run_and_version(versions: Registry) -> None:
    attempt(versions.settings, GateVerdict.SHADOW)
    (done,) = list_attempts(versions.store)
    assert (done.verdict, done.ap_difference, done.interval) == ("shadow", 0.1, (0.0, 0.2))
    assert (done.data, done.reason, done.champion) == (AttemptData(10, "hash", "features"), "test", "1")
    assert done.ended_at is not None
    assert newest_attempt(versions.store) == newest_attempt(versions.store, AttemptKind.TRAIN) == done
    assert newest_attempt(versions.store, AttemptKind.RECALIBRATE) is None
    run = MlflowClient(versions.settings.tracking_uri).get_run(done.run_id)
    for tags in (newest_version(versions.settings).tags, run.data.tags):
        assert tags["verdict"] == "shadow"
        assert tags["gate.interval"] == "+0.000000 to +0.200000"
    assert run.info.run_name == "train 2025-03-01: test"
    assert "version 1" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["system/process_memory_megabytes"] > 10
    assert champion_version(versions.store) == "1"


def test_a_second_training_is_refused_until_the_first_has_ended(versions: Registry) -> None:
    new = NewAttempt(AttemptKind.TRAIN, AS_OF, "first", "1")
    second = NewAttempt(AttemptKind.RECALIBRATE, AS_OF, "second", "1")
    with attempt_run(versions.store, new):
        with pytest.raises(AttemptRunningError, match="Another train has run since"):
            attempt_run(versions.store, second).__enter__()
        with pytest.raises(AttemptRunningError):
            start_attempt(versions.store, "other", second, new_owner())
    with attempt_run(versions.store, second):
        pass
    assert [done.state for done in list_attempts(versions.store)] == [AttemptState.FINISHED] * 2


def test_a_vanished_machine_counts_as_killed_once_its_lease_has_expired(versions: Registry) -> None:
    new = NewAttempt(AttemptKind.TRAIN, AS_OF, "elsewhere", "1")
    with attempt_run(versions.store, new) as opened:
        elsewhere = {"$set": {"lease.host": "elsewhere"}}
        versions.store.training_attempts.update_one({}, elsewhere)
        assert close_interrupted(versions.store) == [], "its lease has not expired"
        expired = {"$set": {"lease.until": datetime(2025, 1, 1, tzinfo=UTC)}}
        versions.store.training_attempts.update_one({}, expired)
        assert close_interrupted(versions.store) == [opened.run.run_id]
        with pytest.raises(IntegrityError, match="closed it"):
            opened.lease.record_version("2")
    (done,) = list_attempts(versions.store)
    assert done.state == AttemptState.KILLED


def test_data_that_a_training_failed_on_count_as_tried_and_an_outage_does_not(versions: Registry) -> None:
    new = NewAttempt(AttemptKind.TRAIN, AS_OF, "test", "1")

    def fail_with(error: Exception) -> None:
        attempt = attempt_run(versions.store, new)
        attempt.__enter__().lease.record_data(AttemptData(10))
        assert not attempt.__exit__(type(error), error, None), "the error is raised"

    fail_with(DataError("Too few buyers.", remedy="wait."))
    failed = newest_attempt(versions.store)
    assert failed is not None
    assert (failed.state, failed.decision) == (AttemptState.FAILED, "Too few buyers. Remedy: wait.")
    versions.store.training_attempts.delete_many({})
    for number in range(MAX_INTERRUPTIONS):
        assert newest_attempt(versions.store) is None, number
        fail_with(DependencyError("MLflow does not answer.", remedy="start it."))
    assert newest_attempt(versions.store) is not None
