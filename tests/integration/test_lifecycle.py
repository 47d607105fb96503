"""The lifecycle of models on a simulated shop: train, score, mature, check, retrain.

The steps run once, in a fixture; each test checks one of their reports.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.errors import DataError, InputError
from retail_core.features.kinds import Clock, Context
from retail_core.ingest import ingest
from retail_core.model.thresholds import highest_certifiable_recall
from retail_core.monitoring.matured_predictions import OutcomeReport, mature_predictions
from retail_core.monitoring.monitor_report import MonitorReport, monitor
from retail_core.monitoring.retraining import RetrainReport, retrain
from retail_core.monitoring.trigger_check import TriggerCheck
from retail_core.monitoring.triggers import check_triggers
from retail_core.registry.versions import version_spec
from retail_core.schemas import TIME_DTYPE, Prediction
from retail_core.scoring.audience_selection import Audience, choose_audience
from retail_core.scoring.audience_sizing import Sizing
from retail_core.scoring.prediction_storage import read_lake_predictions
from retail_core.scoring.scores import CSV_COLUMNS, ScoreReport, score
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.store.lake.table import sync
from retail_core.store.mongo.connection import Store, open_store
from retail_core.store.mongo.predictions import (
    read_members,
    read_outcomes,
    read_predictions,
    replace_predictions,
)
from retail_core.training.options import TrainOptions
from retail_core.training.pipeline import train
from retail_core.training.results import TrainReport
from retail_core.workspace import Workspace
from tests.champion import champion_of
from tests.home_copies import copy_registry, new_database_name

pytestmark = [pytest.mark.integration, pytest.mark.long]

TRAINED = datetime(2025, 1, 29, tzinfo=UTC)
LATER = datetime(2025, 2, 3, tzinfo=UTC)
AT = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Lifecycle:
    """Reports of the steps, in the order in which they ran."""

    workspace: Workspace
    log: pd.DataFrame
    message_without_champion: str
    checks_without_champion: list[TriggerCheck]
    first: TrainReport
    scored: ScoreReport
    file: Path
    rescored: ScoreReport
    before_horizon: OutcomeReport
    without_new_data: RetrainReport
    with_new_data: RetrainReport
    matured: OutcomeReport
    matured_again: OutcomeReport
    monitored: MonitorReport
    retrained: RetrainReport
    reference_f1: float


def split_log(log: Path, at: datetime) -> tuple[Path, Path]:
    paths = log.with_name("before.csv"), log.with_name("after.csv")
    frame = pd.read_csv(log, dtype=str, keep_default_na=False)
    before = pd.to_datetime(frame["event_time"], format="ISO8601") < at
    frame[before].to_csv(paths[0], index=False)
    frame[~before].to_csv(paths[1], index=False)
    return paths


@pytest.fixture(scope="module")
def lifecycle(
    mongod_uri: str, empty_registry: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lifecycle]:
    home = tmp_path_factory.mktemp("shop")
    copy_registry(empty_registry, home)
    settings = Settings(
        home=home,
        mongodb_uri=mongod_uri,
        mongodb_database=new_database_name(),
        search_rows=1_000,
        fit_rows=2_000,
        min_matured_buyers=5,
        new_data_limit=0.05,
    )
    simulate(SimulationConfig(users=700, days=34, seed=5, start=date(2025, 1, 1)), home / "log.csv", None)
    before, after = split_log(home / "log.csv", TRAINED)
    source = sources.get_preset("canonical")
    with open_store(settings) as store:
        ingest(store, [before], source, at=AT)
        workspace = Workspace.synchronized(store)
        with pytest.raises(DataError) as refused:
            score(workspace, as_of=TRAINED, out=None)
        checks_without_champion = check_triggers(workspace, as_of=TRAINED, at=AT)
        first = train(workspace, as_of=TRAINED, options=TrainOptions(policies=("daily",)))
        scored = score(workspace, as_of=TRAINED, out=home / "scores.csv")
        rescored = score(workspace, as_of=TRAINED, out=None)
        before_horizon = mature_predictions(workspace, as_of=TRAINED + DAY)
        without_new_data = retrain(workspace, as_of=TRAINED, check_only=False, at=AT)
        ingest(store, [after], source, at=AT)
        sync(store)
        matured = mature_predictions(workspace, as_of=LATER)
        with_new_data = retrain(workspace, as_of=LATER, check_only=True, at=AT)
        yield Lifecycle(
            workspace=workspace,
            log=pd.read_csv(home / "log.csv", dtype={"user_id": str}, parse_dates=["event_time"]),
            message_without_champion=str(refused.value),
            checks_without_champion=checks_without_champion,
            first=first,
            scored=scored,
            file=home / "scores.csv",
            rescored=rescored,
            before_horizon=before_horizon,
            reference_f1=version_spec(settings, first.version).reference["f1"],
            without_new_data=without_new_data,
            with_new_data=with_new_data,
            matured=matured,
            matured_again=mature_predictions(workspace, as_of=LATER),
            monitored=monitor(workspace, as_of=LATER, at=AT),
            retrained=retrain(workspace, as_of=LATER, check_only=False, at=AT),
        )
        store.client.drop_database(settings.mongodb_database)


def test_without_a_champion_the_message_names_the_training_command(lifecycle: Lifecycle) -> None:
    assert "retail train" in lifecycle.message_without_champion
    names = {check.name for check in lifecycle.checks_without_champion}
    assert names == {check.name for check in lifecycle.retrained.triggers}
    assert not any(check.fired for check in lifecycle.checks_without_champion)


def test_every_eligible_user_is_scored_once_and_ranked(lifecycle: Lifecycle) -> None:
    times = lifecycle.log["event_time"]
    eligible = set(lifecycle.log[(times >= TRAINED - 7 * DAY) & (times < TRAINED)]["user_id"])
    frame = read_predictions(lifecycle.workspace.store, as_of=TRAINED)
    assert set(frame["user_id"]) == eligible
    assert lifecycle.scored.users == lifecycle.rescored.users == len(frame) == len(eligible)
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    order = frame.sort_values(["probability", "raw_score", "user_id"], ascending=[False, False, True])
    assert order["rank"].is_monotonic_increasing
    assert lifecycle.scored.model_version == lifecycle.first.version
    assert lifecycle.scored.population == "users with an event in the 7 days before 2025-01-29T00:00:00Z"
    assert lifecycle.scored.base_rate == lifecycle.first.metrics["base_rate"]


def test_csv_lake_and_database_have_the_same_predictions(lifecycle: Lifecycle) -> None:
    frame = read_predictions(lifecycle.workspace.store, as_of=TRAINED)
    with lifecycle.file.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == (*CSV_COLUMNS, "reasons")
    assert all(row["reasons"].startswith(("raises: ", "lowers: ")) for row in rows[:20])
    assert CSV_COLUMNS[:5] == ("user_id", "probability", "rank", "will_purchase", "contact")
    assert [row["user_id"] for row in rows] == frame["user_id"].tolist()
    assert [float(row["probability"]) for row in rows] == frame["probability"].tolist()
    mirrored = read_lake_predictions(
        lifecycle.workspace.settings.lake_url, as_of=TRAINED, version=lifecycle.scored.model_version
    )
    pd.testing.assert_frame_equal(mirrored[list(frame.columns)], frame)


def test_scoring_without_eligible_users_is_a_data_error(lifecycle: Lifecycle) -> None:
    with pytest.raises(DataError, match="Nobody was active"):
        score(lifecycle.workspace, as_of=datetime(2030, 1, 1, tzinfo=UTC), out=None)


def test_a_label_is_unknown_before_the_horizon_has_passed(lifecycle: Lifecycle) -> None:
    report = lifecycle.before_horizon
    assert (report.matured, report.new, report.metrics) == (0, 0, None)
    assert report.by_day == []


def test_outcomes_are_the_purchases_of_the_log(lifecycle: Lifecycle) -> None:
    outcomes = read_outcomes(lifecycle.workspace.store)
    bought = lifecycle.log[lifecycle.log["event_type"] == "purchase"]
    window = (bought["event_time"] >= TRAINED) & (bought["event_time"] < TRAINED + DAY)
    buyers = set(bought[window]["user_id"])
    assert set(outcomes[outcomes["purchased"]]["user_id"]) == buyers & set(outcomes["user_id"])
    assert lifecycle.matured.matured == lifecycle.matured.new == len(outcomes) == lifecycle.scored.users
    assert lifecycle.matured.metrics is not None
    assert lifecycle.matured.metrics["n"] == len(outcomes)
    assert lifecycle.matured.metrics["base_rate"] == pytest.approx(outcomes["purchased"].mean())
    (day,) = lifecycle.matured.by_day
    assert (day["day"], day["population"]) == ("2025-01-29", "matured predictions of every scored user")
    assert day["base_rate"] == lifecycle.matured.metrics["base_rate"]


def test_maturing_is_idempotent(lifecycle: Lifecycle) -> None:
    assert lifecycle.matured_again.new == 0
    assert lifecycle.matured_again.matured == lifecycle.matured.matured
    assert lifecycle.matured_again.metrics == lifecycle.matured.metrics
    assert lifecycle.workspace.store.outcomes.count_documents({}) == lifecycle.matured.matured


def test_without_new_data_no_model_is_trained(lifecycle: Lifecycle) -> None:
    report = lifecycle.without_new_data
    assert (report.retrained, report.version, report.promoted) == (False, None, False)
    for unmeasured in (check for check in report.triggers if check.name in {"performance", "drift"}):
        assert unmeasured.value is None
        assert "insufficient data" in unmeasured.evidence


def test_new_events_fire_a_trigger_and_check_only_does_not_train(lifecycle: Lifecycle) -> None:
    checks = {check.name: check for check in lifecycle.with_new_data.triggers}
    new_data, performance = checks["new_data"], checks["performance"]
    assert new_data.fired
    times = lifecycle.log["event_time"]
    events_then, events_now = int((times < TRAINED).sum()), int((times < LATER).sum())
    assert new_data.value == pytest.approx(events_now / events_then - 1)
    assert f"{events_now:,} events before" in new_data.evidence
    assert f"{events_then:,} in the train attempt of {TRAINED:%Y-%m-%d}" in new_data.evidence
    assert performance.value is not None
    assert performance.interval is not None
    assert performance.interval[0] < performance.value < performance.interval[1]
    assert performance.limit == pytest.approx(0.95 * lifecycle.reference_f1)
    assert not lifecycle.with_new_data.retrained


def test_drift_is_measured_for_every_user_feature(lifecycle: Lifecycle) -> None:
    report = lifecycle.monitored
    features = version_spec(lifecycle.workspace.settings, lifecycle.first.version).feature_set
    shared = {feature.name for feature in features.plan() if isinstance(feature.kind, Clock | Context)}
    assert report.model_version == lifecycle.first.version
    assert {drift.name for drift in report.drift} == {*features.columns, "score"} - shared
    (drift_check,) = [check for check in report.triggers if check.name == "drift"]
    drifted = [drift for drift in report.drift if drift.drifted]
    assert drift_check.value == pytest.approx(sum(drift.importance for drift in drifted))
    assert 0 < sum(drift.importance for drift in report.drift) <= 1 + 1e-9
    assert drift_check.fired == (drift_check.value >= lifecycle.workspace.settings.drift_limit)
    assert report.live == lifecycle.matured.by_day
    assert report.population


def test_retraining_reports_its_reason_and_a_new_version(lifecycle: Lifecycle) -> None:
    report = lifecycle.retrained
    assert report.retrained
    assert report.reason.startswith("new_data")
    assert report.version != lifecycle.first.version
    assert report.to_dict()["triggers"]


def test_every_check_is_stored_with_its_evidence(lifecycle: Lifecycle) -> None:
    stored = list(lifecycle.workspace.store.trigger_checks.find().sort("_id", 1))
    names = {check.name for check in lifecycle.retrained.triggers}
    assert names >= {"new_data", "performance", "calibration", "drift", "age"}
    assert len(stored) == len(names) * 5
    assert {check["name"] for check in stored} == names
    last = [check for check in stored if check["name"] == "new_data"][-1]
    assert last["fired"] is True
    assert last["model_version"] == lifecycle.first.version
    assert last["as_of"] == LATER
    assert last["at"] == AT
    assert {"value", "limit", "interval", "evidence"} <= set(last)
    assert last["action"] == "retrain"


def make_predictions(as_of: datetime, users: list[str]) -> pd.DataFrame:
    count = len(users)
    return Prediction.validate(
        pd.DataFrame(
            {
                "user_id": pd.Series(users, dtype="str"),
                "as_of": pd.Series([pd.Timestamp(as_of)] * count).astype(TIME_DTYPE),
                "model_version": pd.Series(["99"] * count, dtype="str"),
                "policy": pd.Series(["daily"] * count, dtype="str"),
                "probability": [0.5] * count,
                "raw_score": [0.5] * count,
                "rank": range(1, count + 1),
                "will_purchase": [True] * count,
                "contact": [True] * count,
            }
        )
    )


def test_labels_in_a_gap_are_unknown_and_late_events_count(store: Store, tmp_path: Path) -> None:
    first = datetime(2025, 3, 1, tzinfo=UTC)
    gap_day = 5

    def write(name: str, rows: list[tuple[str, datetime, str]]) -> Path:
        path = tmp_path / name
        lines = [f"{user},{time.isoformat()},{kind}" for user, time, kind in rows]
        path.write_text("\n".join(["user_id,event_time,event_type", *lines]) + "\n")
        return path

    days = [day for day in range(10) if day != gap_day]
    rows = [(f"u{user}", first + day * DAY + 9 * DAY / 24, "view_item") for day in days for user in range(12)]
    source = sources.get_preset("canonical")
    ingest(store, [write("first.csv", rows)], source, at=AT)
    for day in (3, gap_day, 7):
        as_of = first + day * DAY
        replace_predictions(store, make_predictions(as_of, ["u0", "u1"]), as_of=as_of, model_version="99")
    workspace = Workspace.synchronized(store)
    report = mature_predictions(workspace, as_of=first + 9 * DAY)
    assert [day["day"] for day in report.by_day] == ["2025-03-04", "2025-03-08"]
    assert report.metrics is not None
    assert (report.metrics["buyers"], report.metrics["auc"]) == (0, None)
    labelled = store.prediction_windows.find({"collection": "outcomes"})
    assert [entry["horizon_hours"] for entry in labelled] == [24, 24]
    late = ("u1", first + 7 * DAY + DAY / 2, "purchase")
    ingest(store, [write("late.csv", [late])], source, at=AT)
    sync(store)
    after = mature_predictions(workspace, as_of=first + 9 * DAY)
    assert (after.matured, after.new) == (4, 0)
    assert read_outcomes(store).query("purchased")["user_id"].tolist() == ["u1"]
    rescored = make_predictions(first + 3 * DAY, ["u0"])
    replace_predictions(store, rescored, as_of=first + 3 * DAY, model_version="99")
    assert mature_predictions(workspace, as_of=first + 9 * DAY).matured == 3


def test_an_audience_by_budget_has_a_control_group(lifecycle: Lifecycle, tmp_path: Path) -> None:
    predictions = read_predictions(lifecycle.workspace.store, as_of=TRAINED)
    sizing, out = Sizing(budget=40, control=0.25), tmp_path / "audience.csv"
    selected = audience(lifecycle, TRAINED, sizing, out)
    assert (selected.contacted, selected.control, selected.eligible) == (30, 10, len(predictions))
    members = read_members(lifecycle.workspace.store, selected.audience_id)
    assert {member["rank"] for member in members} == set(range(1, 41))
    contacted = [member["user_id"] for member in members if member["group"] == "contact"]
    assert pd.read_csv(out, dtype={"user_id": str})["user_id"].tolist() == contacted
    assert selected.threshold == members[-1]["probability"]
    total = sum(member["probability"] for member in members)
    low, high = selected.expected_buyers_interval
    assert selected.expected_buyers == pytest.approx(total)
    assert low < total < high
    reached = sum(member["probability"] for member in members if member["group"] == "contact")
    assert selected.expected_buyers_contacted == pytest.approx(reached)
    assert selected.population == "users with an event in the 7 days before 2025-01-29T00:00:00Z"
    in_all = selected.mean_probability * selected.eligible
    assert selected.expected_recall == pytest.approx(total / in_all)
    assert selected.base_rate == champion_of(lifecycle.workspace.settings).spec.base_rate
    assert 0 < selected.expected_recall < 1
    repeated = audience(lifecycle, TRAINED, sizing, out)
    assert repeated == selected
    assert read_members(lifecycle.workspace.store, selected.audience_id) == members, (
        "the same draw, stored once"
    )


def test_audiences_by_cost_and_no_miss(lifecycle: Lifecycle, tmp_path: Path) -> None:
    by_cost = audience(lifecycle, TRAINED, Sizing(cost=1.0, value=8.0, control=0.0), tmp_path / "cost.csv")
    assert by_cost.threshold > 1 / 8
    assert by_cost.control == 0
    no_miss = audience(lifecycle, TRAINED, Sizing(no_miss=True), tmp_path / "all.csv")
    lowest = champion_of(lifecycle.workspace.settings).spec.thresholds["daily"]["no-miss"]
    assert no_miss.threshold >= lowest
    assert no_miss.expected_recall > by_cost.expected_recall
    full_recall = audience(lifecycle, TRAINED, Sizing(recall=1.0), tmp_path / "all.csv")
    assert full_recall == no_miss, "a recall of 1.0 is the same request"
    with pytest.raises(DataError, match="worth the contact"):
        audience(lifecycle, TRAINED, Sizing(cost=0.9999, value=1.0), tmp_path / "none.csv")


def test_an_uncertifiable_recall_names_the_nearest_one(lifecycle: Lifecycle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Recall 0\.999 at 95% cannot be certified"):
        audience(lifecycle, TRAINED, Sizing(recall=0.999), tmp_path / "recall.csv")
    buyers = len(champion_of(lifecycle.workspace.settings).spec.certification["daily"]["held_out"])
    sizing = Sizing(recall=highest_certifiable_recall(buyers, 0.95))
    certified = audience(lifecycle, TRAINED, sizing, tmp_path / "recall.csv")
    assert certified.expected_recall > 0.5


def audience(lifecycle: Lifecycle, as_of: datetime, sizing: Sizing, out: Path) -> Audience:
    return choose_audience(lifecycle.workspace, as_of=as_of, sizing=sizing, out=out)


def test_a_model_of_another_horizon_is_refused_where_the_setting_is_explicit(lifecycle: Lifecycle) -> None:
    settings = lifecycle.workspace.settings.model_copy(update={"horizon_hours": 48})
    settings.model_fields_set.add("horizon_hours")
    with open_store(settings) as store, pytest.raises(InputError) as refused:
        score(Workspace(store), as_of=TRAINED, out=None)
    assert "trained with horizon_hours = 24" in refused.value.message
    assert "RETAIL_HORIZON_HOURS" in refused.value.remedy
