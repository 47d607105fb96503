"""One shop's story, told once: trained, scored, matured, checked, retrained; each test reads a part."""

from __future__ import annotations

import csv
import uuid
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
from retail_core.monitoring.triggers import TriggerCheck, check_triggers
from retail_core.registry.versions import load_champion, version_spec
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
from retail_core.training.pipeline import TrainOptions, TrainReport, train
from retail_core.workspace import Workspace

pytestmark = pytest.mark.integration

TRAINED = datetime(2025, 1, 29, tzinfo=UTC)
LATER = datetime(2025, 2, 3, tzinfo=UTC)
AT = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass
class Story:
    work: Workspace
    log: pd.DataFrame
    no_champion: str
    checked_without: list[TriggerCheck]
    first: TrainReport
    scored: ScoreReport
    file: Path
    again: ScoreReport
    early: OutcomeReport
    quiet: RetrainReport
    grown: RetrainReport
    matured: OutcomeReport
    repeated: OutcomeReport
    monitored: MonitorReport
    retrained: RetrainReport
    reference_f1: float


def split(log: Path, at: datetime) -> tuple[Path, Path]:
    parts = log.with_name("before.csv"), log.with_name("after.csv")
    frame = pd.read_csv(log, dtype=str, keep_default_na=False)
    before = pd.to_datetime(frame["event_time"], format="ISO8601") < at
    frame[before].to_csv(parts[0], index=False)
    frame[~before].to_csv(parts[1], index=False)
    return parts


@pytest.fixture(scope="module")
def story(mongod_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = tmp_path_factory.mktemp("shop")
    settings = Settings(
        home=home,
        mongodb_uri=mongod_uri,
        mongodb_database=f"story_{uuid.uuid4().hex[:8]}",
        search_rows=1_000,
        fit_rows=2_000,
        min_matured_buyers=5,
        new_data_limit=0.05,
    )
    simulate(SimulationConfig(users=700, days=34, seed=5, start=date(2025, 1, 1)), home / "log.csv", None)
    before, after = split(home / "log.csv", TRAINED)
    source = sources.get_preset("canonical")
    with open_store(settings) as store:
        ingest(store, [before], source, at=AT)
        work = Workspace.synchronized(store)
        with pytest.raises(DataError) as refused:
            score(work, as_of=TRAINED, out=None)
        without = check_triggers(work, as_of=TRAINED, at=AT)
        first = train(work, as_of=TRAINED, options=TrainOptions(policies=("daily",)))
        scored = score(work, as_of=TRAINED, out=home / "scores.csv")
        again = score(work, as_of=TRAINED, out=None)
        early = mature_predictions(work, as_of=TRAINED + DAY)
        quiet = retrain(work, as_of=TRAINED, check_only=False, at=AT)
        ingest(store, [after], source, at=AT)
        sync(store)
        matured = mature_predictions(work, as_of=LATER)
        grown = retrain(work, as_of=LATER, check_only=True, at=AT)
        yield Story(
            work=work,
            log=pd.read_csv(home / "log.csv", dtype={"user_id": str}, parse_dates=["event_time"]),
            no_champion=str(refused.value),
            checked_without=without,
            first=first,
            scored=scored,
            file=home / "scores.csv",
            again=again,
            early=early,
            reference_f1=version_spec(settings, first.version).reference["f1"],
            quiet=quiet,
            grown=grown,
            matured=matured,
            repeated=mature_predictions(work, as_of=LATER),
            monitored=monitor(work, as_of=LATER, at=AT),
            retrained=retrain(work, as_of=LATER, check_only=False, at=AT),
        )
        store.client.drop_database(settings.mongodb_database)


def test_without_a_champion_one_is_told_to_train(story: Story) -> None:
    assert "retail train" in story.no_champion
    assert [one.name for one in story.checked_without] == ["new_data", "performance", "drift"]
    assert not any(one.fired for one in story.checked_without)


def test_every_eligible_user_is_scored_once_and_ranked(story: Story) -> None:
    times = story.log["event_time"]
    eligible = set(story.log[(times >= TRAINED - 7 * DAY) & (times < TRAINED)]["user_id"])
    frame = read_predictions(story.work.store, as_of=TRAINED)
    assert set(frame["user_id"]) == eligible
    assert story.scored.users == story.again.users == len(frame) == len(eligible)
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))
    order = frame.sort_values(["probability", "raw_score", "user_id"], ascending=[False, False, True])
    assert order["rank"].is_monotonic_increasing
    assert story.scored.model_version == story.first.version
    assert story.scored.population == "users with an event in the 7 days before 2025-01-29T00:00:00Z"
    assert story.scored.base_rate == story.first.metrics["base_rate"]


def test_file_and_lake_say_what_the_database_says(story: Story) -> None:
    frame = read_predictions(story.work.store, as_of=TRAINED)
    with story.file.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert tuple(rows[0]) == (*CSV_COLUMNS, "reasons")
    assert all(row["reasons"].startswith(("raises: ", "lowers: ")) for row in rows[:20])
    assert CSV_COLUMNS[:5] == ("user_id", "probability", "rank", "will_purchase", "contact")
    assert [row["user_id"] for row in rows] == frame["user_id"].tolist()
    assert [float(row["probability"]) for row in rows] == frame["probability"].tolist()
    mirrored = read_lake_predictions(
        story.work.settings.lake_url, as_of=TRAINED, version=story.scored.model_version
    )
    pd.testing.assert_frame_equal(mirrored[list(frame.columns)], frame)


def test_nobody_eligible_is_one_sentence(story: Story) -> None:
    with pytest.raises(DataError, match="Nobody was active"):
        score(story.work, as_of=datetime(2030, 1, 1, tzinfo=UTC), out=None)


def test_a_label_that_is_not_known_yet_is_no_label(story: Story) -> None:
    assert (story.early.matured, story.early.new, story.early.metrics) == (0, 0, None)
    assert story.early.by_day == []


def test_outcomes_are_what_the_log_says(story: Story) -> None:
    outcomes = read_outcomes(story.work.store)
    bought = story.log[story.log["event_type"] == "purchase"]
    window = (bought["event_time"] >= TRAINED) & (bought["event_time"] < TRAINED + DAY)
    buyers = set(bought[window]["user_id"])
    assert set(outcomes[outcomes["purchased"]]["user_id"]) == buyers & set(outcomes["user_id"])
    assert story.matured.matured == story.matured.new == len(outcomes) == story.scored.users
    assert story.matured.metrics is not None
    assert story.matured.metrics["n"] == len(outcomes)
    assert story.matured.metrics["base_rate"] == pytest.approx(outcomes["purchased"].mean())
    (day,) = story.matured.by_day
    assert (day["day"], day["population"]) == ("2025-01-29", "matured predictions of every scored user")
    assert day["base_rate"] == story.matured.metrics["base_rate"]


def test_maturing_twice_changes_nothing(story: Story) -> None:
    assert story.repeated.new == 0
    assert story.repeated.matured == story.matured.matured
    assert story.repeated.metrics == story.matured.metrics
    assert story.work.store.outcomes.count_documents({}) == story.matured.matured


def test_nothing_new_trains_nothing(story: Story) -> None:
    assert (story.quiet.retrained, story.quiet.version, story.quiet.promoted) == (False, None, False)
    for unknown in story.quiet.triggers[1:]:
        assert unknown.value is None
        assert "insufficient data" in unknown.evidence


def test_new_events_fire_and_check_only_trains_nothing(story: Story) -> None:
    new_data, performance, _ = story.grown.triggers
    assert new_data.fired
    then, now = (int((story.log["event_time"] < moment).sum()) for moment in (TRAINED, LATER))
    assert new_data.value == pytest.approx(now / then - 1)
    assert f"{now:,} events now, {then:,} in the data" in new_data.evidence
    assert performance.value is not None
    assert performance.limit == pytest.approx(0.95 * story.reference_f1)
    assert not story.grown.retrained


def test_drift_is_measured_for_every_feature_that_tells_users_apart(story: Story) -> None:
    told = story.monitored
    features = version_spec(story.work.settings, story.first.version).feature_set
    of_all = {one.name for one in features.plan() if isinstance(one.kind, Clock | Context)}
    assert told.model_version == story.first.version
    assert {one.name for one in told.drift} == {*features.columns, "score"} - of_all
    (checked,) = [one for one in told.triggers if one.name == "drift"]
    assert checked.value == pytest.approx(sum(one.importance for one in told.drift if one.drifted))
    assert 0 < sum(one.importance for one in told.drift) <= 1 + 1e-9
    assert checked.fired == (checked.value >= story.work.settings.drift_limit)
    assert told.live == story.matured.by_day
    assert told.population


def test_retraining_names_its_reason_and_leaves_production_to_the_gate(story: Story) -> None:
    report = story.retrained
    assert report.retrained
    assert report.reason.startswith("new_data")
    assert report.version != story.first.version
    assert report.to_dict()["triggers"]


def test_every_check_is_kept_with_its_evidence(story: Story) -> None:
    kept = list(story.work.store.trigger_checks.find().sort("_id", 1))
    assert len(kept) == 3 * 5
    assert {one["name"] for one in kept} == {"new_data", "performance", "drift"}
    last = kept[-3]
    assert last["fired"] is True
    assert last["model_version"] == story.first.version
    assert last["as_of"] == LATER
    assert last["at"] == AT
    assert {"value", "limit", "evidence"} <= set(last)


def prediction(as_of: datetime, users: list[str]) -> pd.DataFrame:
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


def test_a_gap_in_the_data_is_unknown_and_a_late_event_counts(store: Store, tmp_path: Path) -> None:
    first = datetime(2025, 3, 1, tzinfo=UTC)
    silent = 5

    def write(name: str, rows: list[tuple[str, datetime, str]]) -> Path:
        path = tmp_path / name
        lines = [f"{user},{time.isoformat()},{kind}" for user, time, kind in rows]
        path.write_text("\n".join(["user_id,event_time,event_type", *lines]) + "\n")
        return path

    days = [day for day in range(10) if day != silent]
    rows = [(f"u{user}", first + day * DAY + 9 * DAY / 24, "view_item") for day in days for user in range(3)]
    source = sources.get_preset("canonical")
    ingest(store, [write("first.csv", rows)], source, at=AT)
    for day in (3, silent, 7):
        as_of = first + day * DAY
        replace_predictions(store, prediction(as_of, ["u0", "u1"]), as_of=as_of, model_version="99")
    work = Workspace.synchronized(store)
    report = mature_predictions(work, as_of=first + 9 * DAY)
    assert [day["day"] for day in report.by_day] == ["2025-03-04", "2025-03-08"]
    assert report.metrics is not None
    assert (report.metrics["buyers"], report.metrics["auc"]) == (0, None)
    late = ("u1", first + 7 * DAY + DAY / 2, "purchase")
    ingest(store, [write("late.csv", [late])], source, at=AT)
    sync(store)
    after = mature_predictions(work, as_of=first + 9 * DAY)
    assert (after.matured, after.new) == (4, 0)
    assert read_outcomes(store).query("purchased")["user_id"].tolist() == ["u1"]
    rescored = prediction(first + 3 * DAY, ["u0"])
    replace_predictions(store, rescored, as_of=first + 3 * DAY, model_version="99")
    assert mature_predictions(work, as_of=first + 9 * DAY).matured == 3


def test_an_audience_by_budget_holds_a_control_group_out(story: Story, tmp_path: Path) -> None:
    everybody = read_predictions(story.work.store, as_of=TRAINED)
    sizing, out = Sizing(budget=40, control=0.25), tmp_path / "audience.csv"
    found = audience(story, TRAINED, sizing, out)
    assert (found.contacted, found.control, found.eligible) == (30, 10, len(everybody))
    members = read_members(story.work.store, found.audience_id)
    assert {one["rank"] for one in members} == set(range(1, 41))
    contacted = [one["user_id"] for one in members if one["group"] == "contact"]
    assert pd.read_csv(out, dtype={"user_id": str})["user_id"].tolist() == contacted
    assert found.threshold == members[-1]["probability"]
    total = sum(one["probability"] for one in members)
    low, high = found.expected_buyers_interval
    assert found.expected_buyers == pytest.approx(total)
    assert low < total < high
    reached = sum(one["probability"] for one in members if one["group"] == "contact")
    assert found.expected_buyers_contacted == pytest.approx(reached)
    assert found.population == "users with an event in the 7 days before 2025-01-29T00:00:00Z"
    in_all = found.mean_probability * found.eligible
    assert found.expected_recall == pytest.approx(total / in_all)
    assert found.base_rate == load_champion(story.work.settings).spec.base_rate
    assert 0 < found.expected_recall < 1
    again = audience(story, TRAINED, sizing, out)
    assert again == found
    assert read_members(story.work.store, found.audience_id) == members, "the same draw, stored once"


def test_audiences_by_cost_and_without_a_miss(story: Story, tmp_path: Path) -> None:
    dear = audience(story, TRAINED, Sizing(cost=1.0, value=8.0, control=0.0), tmp_path / "cost.csv")
    assert dear.threshold > 1 / 8
    assert dear.control == 0
    everybody = audience(story, TRAINED, Sizing(no_miss=True), tmp_path / "all.csv")
    lowest = load_champion(story.work.settings).spec.thresholds["daily"]["no-miss"]
    assert everybody.threshold >= lowest
    assert everybody.expected_recall > dear.expected_recall
    asked = audience(story, TRAINED, Sizing(recall=1.0), tmp_path / "all.csv")
    assert asked == everybody, "a recall of 1.0 is the same request"
    with pytest.raises(DataError, match="worth the contact"):
        audience(story, TRAINED, Sizing(cost=0.9999, value=1.0), tmp_path / "none.csv")


def test_a_recall_that_the_champion_cannot_certify_names_the_nearest(story: Story, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Recall 0\.999 at 95% cannot be certified"):
        audience(story, TRAINED, Sizing(recall=0.999), tmp_path / "recall.csv")
    buyers = len(load_champion(story.work.settings).spec.certification["daily"]["held_out"])
    found = audience(
        story, TRAINED, Sizing(recall=highest_certifiable_recall(buyers, 0.95)), tmp_path / "recall.csv"
    )
    assert found.expected_recall > 0.5


def audience(story: Story, as_of: datetime, sizing: Sizing, out: Path) -> Audience:
    return choose_audience(story.work, as_of=as_of, sizing=sizing, out=out)


def test_a_model_of_another_horizon_is_refused_where_the_setting_is_explicit(story: Story) -> None:
    settings = story.work.settings.model_copy(update={"horizon_hours": 48})
    settings.model_fields_set.add("horizon_hours")
    with open_store(settings) as store, pytest.raises(InputError) as refused:
        score(Workspace(store), as_of=TRAINED, out=None)
    assert "trained with horizon_hours = 24" in refused.value.message
    assert "RETAIL_HORIZON_HOURS" in refused.value.remedy
