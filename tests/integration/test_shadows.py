"""Shadows: silent scoring, verdicts on planted days, repetition, kills, concurrency."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from retail_core.arrays import FloatArray
from retail_core.cli.app import app
from retail_core.errors import DataError
from retail_core.model.calibration import expit
from retail_core.monitoring.shadow_verdicts import ACTOR, ShadowReport, judge_shadows
from retail_core.privacy.erasure import erase
from retail_core.registry import versions as registry
from retail_core.registry.champion import champion_version
from retail_core.registry.promotion import Author, PromotionDecision, promote, promote_on, rollback
from retail_core.registry.promotion_record import history as promotions
from retail_core.registry.shadow_record import (
    Role,
    Verdict,
    follow_promotions,
    history,
    running_shadows,
    start_challenger,
)
from retail_core.schemas import TIME_DTYPE
from retail_core.scoring.list_predictions import predict_eligible
from retail_core.scoring.scores import score
from retail_core.store.mongo.connection import Document, Store, open_store
from retail_core.store.mongo.list_estimates import read_estimates
from retail_core.store.mongo.predictions import (
    read_predictions,
    read_shadow_predictions,
    replace_shadow_predictions,
    write_outcomes,
)
from retail_core.workspace import Workspace
from tests.serving import AS_OF, Shop, register_variant

pytestmark = pytest.mark.integration

USERS, DAYS = 1_500, 8
UNTIL = AS_OF + timedelta(days=DAYS + 1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class ShadowShop:
    """A shop with version 1 in production and three further versions."""

    workspace: Workspace
    promoted: list[Document]

    @property
    def store(self) -> Store:
        return self.workspace.store


@pytest.fixture(scope="module")
def prepared(shop: Shop) -> Iterator[ShadowShop]:
    for factor in (0.5, 0.6, 0.7):
        register_variant(shop.settings, factor=factor)
    with open_store(shop.settings) as store:
        yield ShadowShop(Workspace.synchronized(store), promotions(store))


@pytest.fixture
def shadows(prepared: ShadowShop) -> ShadowShop:
    """Version 1 in production, and nothing shadows or has matured."""
    store = prepared.store
    for name in ("promotions", "alerts", "shadows", "shadow_predictions", "outcomes"):
        store.database[name].delete_many({})
    store.prediction_windows.delete_many({"collection": {"$in": ["shadow_predictions", "outcomes"]}})
    store.promotions.insert_many(prepared.promoted)
    registry.set_production(store.settings, "1")
    return prepared


def plant_days(
    store: Store, champion: tuple[str, float], shadow: tuple[str, float], days: int = DAYS
) -> None:
    """Matured days of two versions whose log odds miss the true ones by noise of these deviations."""
    rng = np.random.default_rng(1)
    for number in range(days):
        as_of = AS_OF + number * DAY
        true = rng.normal(-3.0, 1.0, USERS)
        purchased = rng.random(USERS) < expit(true)
        for version, noise in (champion, shadow):
            frame = scored_frame(as_of, version, expit(true + rng.normal(0, noise, USERS)))
            if version == shadow[0]:
                replace_shadow_predictions(store, frame, as_of=as_of, model_version=version)
            else:
                write_outcomes(store, frame.assign(purchased=purchased))
    labelled = {"collection": "outcomes"}
    store.prediction_windows.update_many(labelled, {"$set": {"predictions_run": "scored"}})


def scored_frame(as_of: datetime, version: str, probability: FloatArray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": pd.Series([f"u{number:05}" for number in range(len(probability))], dtype="str"),
            "as_of": pd.Series([as_of] * len(probability), dtype=TIME_DTYPE),
            "model_version": pd.Series(version, index=range(len(probability)), dtype="str"),
            "policy": pd.Series("daily", index=range(len(probability)), dtype="str"),
            "probability": probability,
            "raw_score": probability,
            "rank": np.arange(1, len(probability) + 1),
            "will_purchase": probability > 0.2,
            "contact": probability > 0.1,
        }
    )


def judge(workspace: Workspace) -> list[ShadowReport]:
    return judge_shadows(workspace, as_of=UNTIL)


def test_a_shadow_scores_the_list_and_no_list_shows_it(shadows: ShadowShop) -> None:
    store = shadows.store
    before = read_predictions(store)
    start_challenger(store, "2", "test")
    report = score(shadows.workspace, as_of=AS_OF, out=None)
    assert report.shadows == ["2"]
    assert report.model_version == "1"
    pd.testing.assert_frame_equal(read_predictions(store), before)
    stored = read_shadow_predictions(store, since=AS_OF, until=AS_OF, model_version="2")
    model = registry.load_version(store.settings, "2")
    lake = shadows.workspace.lake.snapshot()
    expected = predict_eligible(lake, model, AS_OF, shadows.workspace.engine)
    pd.testing.assert_frame_equal(stored[["user_id", "probability"]], expected[["user_id", "probability"]])
    user = stored["user_id"].iloc[0]
    assert erase(store, user)["shadow_predictions"] == 1
    remaining = read_shadow_predictions(store, since=AS_OF, until=AS_OF, model_version="2")
    assert user not in set(remaining["user_id"])


def test_a_list_is_stored_with_its_expected_quality(shadows: ShadowShop) -> None:
    report = score(shadows.workspace, as_of=AS_OF, out=None)
    [estimate] = read_estimates(shadows.store, "1", newest=5)
    assert estimate["expected_buyers"] == report.expected_buyers
    assert (
        estimate["expected_buyers_low"],
        estimate["expected_buyers_high"],
    ) == report.expected_buyers_interval
    assert 0 < estimate["expected_ap"] < 1


def test_a_challenger_that_is_ahead_is_promoted_once_and_the_champion_shadows_it(shadows: ShadowShop) -> None:
    store = shadows.store
    start_challenger(store, "2", "test")
    plant_days(store, ("1", 1.5), ("2", 0.2))
    [report] = judge(shadows.workspace)
    assert report.verdict == Verdict.PROMOTED
    assert report.interval is not None
    assert report.interval[0] > 0
    newest = promotions(store)[-1]
    assert (newest["version"], newest["previous"]) == ("2", "1")
    assert newest["evidence"]["days"] == DAYS
    assert newest["reason"].startswith("shadow: version 2 is better")
    assert champion_version(store) == "2"
    assert [(entry.version, entry.champion, entry.role) for entry in running_shadows(store)] == [
        ("1", "2", Role.PREVIOUS)
    ]
    assert [entry.verdict for entry in judge(shadows.workspace)] == [None]
    assert len(promotions(store)) == 2


def test_a_promotion_killed_before_the_shadow_ended_counts(shadows: ShadowShop) -> None:
    store = shadows.store
    start_challenger(store, "2", "test")
    plant_days(store, ("1", 1.5), ("2", 0.2))
    promote_on(store, "2", PromotionDecision(True, "shadow: killed here", {"champion": "1"}))
    judge(shadows.workspace)
    assert [entry["verdict"] for entry in history(store)] == [Verdict.PROMOTED, None]
    assert len(promotions(store)) == 2


def test_a_challenger_that_is_behind_is_dropped(shadows: ShadowShop) -> None:
    store = shadows.store
    start_challenger(store, "2", "test")
    plant_days(store, ("1", 0.2), ("2", 1.5))
    [report] = judge(shadows.workspace)
    assert report.verdict == Verdict.BEHIND
    assert champion_version(store) == "1"
    assert not running_shadows(store)


def test_days_are_added_until_the_time_is_over(shadows: ShadowShop) -> None:
    store = shadows.store
    start_challenger(store, "2", "test")
    plant_days(store, ("1", 0.5), ("2", 0.5), days=3)
    [report] = judge(shadows.workspace)
    assert (report.verdict, report.days) == (None, 3)
    assert [entry["day"] for entry in running_shadows(store)[0].days] == [
        (AS_OF + number * DAY).date().isoformat() for number in range(3)
    ]
    [late] = judge_shadows(shadows.workspace, as_of=AS_OF + timedelta(days=62))
    assert late.verdict == Verdict.UNDECIDED


def test_a_worse_champion_is_rolled_back_once(shadows: ShadowShop) -> None:
    store = shadows.store
    promote(store, "2", Author("by hand"))
    follow_promotions(store)
    plant_days(store, ("2", 1.5), ("1", 0.2))
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(judge, [shadows.workspace] * 2))
    assert Verdict.ROLLED_BACK in [report.verdict for entries in reports for report in entries]
    entries = promotions(store)
    assert [(entry["kind"], entry["version"]) for entry in entries[1:]] == [
        ("promote", "2"),
        ("rollback", "1"),
    ]
    assert entries[-1]["actor"] == ACTOR
    assert entries[-1]["evidence"]["days"] == DAYS
    assert champion_version(store) == "1"
    alert = store.alerts.find_one({"kind": "rolled_back"})
    assert alert is not None
    assert "automatic rollback: version 1 is better than the champion" in alert["text"]
    assert not judge(shadows.workspace)
    assert [entry["verdict"] for entry in history(store)] == [Verdict.ROLLED_BACK]


def test_without_automatic_rollback_the_verdict_is_reported_only(shadows: ShadowShop) -> None:
    store = shadows.store
    promote(store, "2", Author("by hand"))
    follow_promotions(store)
    plant_days(store, ("2", 1.5), ("1", 0.2))
    kept = store.settings.model_copy(update={"auto_rollback": False})
    [report] = judge(Workspace(Store(kept, store.client, store.database)))
    assert report.verdict is None
    assert "RETAIL_AUTO_ROLLBACK" in report.decision
    assert champion_version(store) == "2"


def test_a_change_by_hand_ends_the_shadows_of_the_earlier_champion(shadows: ShadowShop) -> None:
    store = shadows.store
    start_challenger(store, "2", "test")
    promote(store, "3", Author("by hand"))
    assert [entry.version for entry in running_shadows(store)] == ["1"]
    rollback(store, Author("by hand"))
    assert not running_shadows(store)
    assert [entry["verdict"] for entry in history(store)] == [Verdict.SUPERSEDED, Verdict.ROLLED_BACK]


def test_readers_at_the_same_time_start_one_shadow(shadows: ShadowShop) -> None:
    store = shadows.store
    promote(store, "2", Author("by hand"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(follow_promotions, [store] * 4))
    assert [(entry["version"], entry["role"]) for entry in history(store)] == [("1", Role.PREVIOUS)]


def test_two_challengers_shadow_at_most(shadows: ShadowShop) -> None:
    store = shadows.store
    for version in ("2", "2", "3", "4"):
        start_challenger(store, version, "test")
    assert [entry.version for entry in running_shadows(store)] == ["3", "4"]
    assert history(store)[0]["verdict"] == Verdict.SUPERSEDED
    with pytest.raises(DataError, match="in production"):
        start_challenger(store, "1", "test")


def test_the_command_starts_shows_and_stops(shadows: ShadowShop, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = shadows.store.settings
    monkeypatch.setenv("RETAIL_HOME", str(settings.home))
    assert settings.mongodb_uri is not None
    monkeypatch.setenv("RETAIL_MONGODB_URI", settings.mongodb_uri.get_secret_value())
    monkeypatch.setenv("RETAIL_MONGODB_DATABASE", settings.mongodb_database)

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["models", "shadow", *arguments, "--json"], catch_exceptions=False)
        return json.loads(result.stdout)

    assert run("2", "--reason", "try")["state"] == "running"
    assert [(entry["version"], entry["reason"]) for entry in run()["shadows"]] == [("2", "try")]
    assert run("2", "--stop")["verdict"] == Verdict.STOPPED
    with pytest.raises(DataError, match="does not shadow"):
        run("2", "--stop")
