"""Profiles of the days in the lake, late events and undone files; the check of the newest days."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from retail_core import sources
from retail_core.ingest import ingest, undo
from retail_core.monitoring.data_check import check_data
from retail_core.monitoring.profiles.profile_storage import (
    current_profiles,
    update_profiles,
    whole_days_until,
)
from retail_core.scoring.list_checks import list_sizes, log_lateness
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.store.mongo.connection import Store, open_store
from retail_core.workspace import Workspace
from tests.command_line import retail
from tests.home_copies import drop_database, new_database_name

AT = datetime(2025, 2, 5, tzinfo=UTC)
START = date(2025, 1, 1)
ONE_DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def changed_shop(
    tmp_path_factory: pytest.TempPathFactory, mongod_uri: str
) -> Iterator[tuple[Settings, Path]]:
    """Thirty days of a shop whose android app changes its schema after twenty, and the log."""
    folder = tmp_path_factory.mktemp("changed-shop")
    log = folder / "log.csv"
    simulate(SimulationConfig(users=800, days=30, seed=9, start=START, drift="schema"), log)
    settings = Settings(
        home=folder / "home",
        mongodb_uri=mongod_uri,
        mongodb_database=new_database_name(),
        timezone="Asia/Kolkata",
    )
    with open_store(settings) as store:
        ingest(store, [log], sources.get_preset("canonical"), at=AT)
    yield settings, log
    drop_database(settings)


@pytest.fixture
def workspace(changed_shop: tuple[Settings, Path]) -> Iterator[Workspace]:
    with open_store(changed_shop[0]) as store:
        yield Workspace.synchronized(store)


def fingerprints(store: Store) -> dict[str, str]:
    return {document["_id"]: document["fingerprint"] for document in store.data_profiles.find()}


def test_profiles_count_what_the_log_has(workspace: Workspace, changed_shop: tuple[Settings, Path]) -> None:
    profiles = current_profiles(workspace, AT)
    log = pd.read_csv(changed_shop[1], dtype={"user_id": "str", "currency": "str"})
    times = pd.to_datetime(log["event_time"], utc=True)
    local = log.assign(day=times.dt.tz_convert("Asia/Kolkata").dt.date)
    day = profiles[12]
    rows = local[local["day"] == day.day]
    assert (day.events, day.users) == (len(rows), rows["user_id"].nunique())
    android = day.platforms["android"]
    views = rows[(rows["platform"] == "android") & (rows["event_type"] == "view_item")]
    counts = android.types["view_item"]
    assert (counts.events, counts.users) == (len(views), views["user_id"].nunique())
    assert counts.filled["brand"] == views["brand"].notna().sum()
    shoes = rows[(rows["platform"] == "android") & (rows["category"] == "shoes")]
    assert android.values["category"].users["shoes"] == shoes["user_id"].nunique()


def test_only_changed_days_are_computed_again(workspace: Workspace, tmp_path: Path) -> None:
    current_profiles(workspace, AT)
    before = fingerprints(workspace.store)
    until = whole_days_until(workspace, AT)
    assert update_profiles(workspace, until) == 0
    late = tmp_path / "late.csv"
    late.write_text("user_id,event_time,event_type\nu-late,2025-01-10T12:00:00Z,view_item\n")
    ingest(workspace.store, [late], sources.get_preset("canonical"), at=AT)
    current = Workspace.synchronized(workspace.store)
    profiles = {profile.day: profile for profile in current_profiles(current, AT)}
    assert profiles[date(2025, 1, 10)].platforms["(none)"].types["view_item"].users == 1
    changed = {day for day, digest in fingerprints(workspace.store).items() if before[day] != digest}
    assert changed <= {"2025-01-10", "2025-01-11"}
    file = workspace.store.ledger.find_one({"file": late.name})
    assert file is not None
    undo(workspace.store, file["_id"], at=AT)
    restored = {p.day: p for p in current_profiles(Workspace.synchronized(workspace.store), AT)}
    assert "view_item" not in restored[date(2025, 1, 10)].platforms["(none)"].types


def test_an_interrupted_update_is_completed(workspace: Workspace) -> None:
    current_profiles(workspace, AT)
    documents = list(workspace.store.data_profiles.find())
    workspace.store.data_profiles.delete_many({"_id": {"$gt": "2025-01-15"}})
    workspace.store.data_profiles.update_one(
        {"_id": "2025-01-03"}, {"$set": {"fingerprint": "", "events": 1}}
    )
    current_profiles(workspace, AT)
    assert list(workspace.store.data_profiles.find().sort("_id")) == sorted(documents, key=lambda d: d["_id"])


def test_a_changed_schema_is_found_on_its_first_whole_day(workspace: Workspace) -> None:
    quiet = {check.name: check for check in check_data(workspace, datetime(2025, 1, 20, tzinfo=UTC)).checks}
    assert not quiet["schema"].fired
    later = datetime(2025, 1, 22, 20, tzinfo=UTC)
    report = check_data(workspace, later)
    schema = {check.name: check for check in report.checks}["schema"]
    assert schema.fired
    for change in (
        "event type view_promotion: new",
        "brand of view_item on android: empty",
    ):
        assert change in schema.evidence
    assert report.newest_day == date(2025, 1, 22)


def test_a_stopped_log_is_late(workspace: Workspace) -> None:
    newest = workspace.newest_event
    for days, is_late in ((0.0, False), (2.0, True)):
        lateness = log_lateness(workspace, newest + days * ONE_DAY)
        assert lateness is not None
        assert lateness.silence is not None
        assert lateness.silence.is_late == is_late
    stopped = check_data(workspace, newest + 2 * ONE_DAY)
    assert [check.name for check in stopped.checks if check.fired][-1] == "freshness"


def test_list_sizes_are_those_of_the_log(workspace: Workspace, changed_shop: tuple[Settings, Path]) -> None:
    log = pd.read_csv(changed_shop[1], dtype={"user_id": "str"})
    times = pd.to_datetime(log["event_time"], utc=True)
    as_of = datetime(2025, 1, 29, tzinfo=UTC)
    sizes = list_sizes(workspace.lake, workspace.task, as_of, times.min().to_pydatetime(), workspace.engine)
    counts = [
        log["user_id"][(times < end) & (times >= end - 7 * ONE_DAY)].nunique()
        for end in (as_of - n * 7 * ONE_DAY for n in range(3))
    ]
    assert (sizes.now, *sizes.past) == tuple(counts)


def test_the_command_reports_days_and_findings(workspace: Workspace) -> None:
    settings = workspace.settings
    assert settings.mongodb_uri is not None
    variables = {
        "RETAIL_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
        "RETAIL_TIMEZONE": "Asia/Kolkata",
    }
    done = retail("data", "check", "--json", home=settings.home_dir, **variables)
    report = json.loads(done.stdout)
    assert len(report["volumes"]) == 7
    assert report["platforms"][-1]["null_shares"]["view_item"]["item_id"] == 0
    assert any("schema" in finding for finding in report["findings"])
    text = retail("data", "check", home=settings.home_dir, **variables).stdout
    assert "Finding: schema" in text
