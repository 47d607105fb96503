"""The leakage guard on real logs: it names the column behind another system's headline, and nothing else."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from retail_core import sources
from retail_core.features.cutoffs.labels import label_pairs
from retail_core.features.cutoffs.policies import FIRST_VISIT_DELAY, first_visit_pairs
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.leakage import inspect_leakage
from retail_core.schemas import Pairs
from retail_core.settings import Settings
from retail_core.sources.event_reader import read_events
from retail_core.store.lake.scratch_lake import scratch_lake
from retail_core.times import parse_instant
from retail_core.training.leakage_inspection import build_guard_data, inspect_log
from tests.command_line import retail
from tests.home_copies import copy_registry, drop_database

pytestmark = [pytest.mark.realdata, pytest.mark.long]

PROFILES = "app_profile/retail_app_data.csv.gz"


@pytest.mark.parametrize(
    ("folder", "as_of"), [("taobao", "2017-12-04T00:00:00+08:00"), ("online_retail", "2011-12-09T00:00:00Z")]
)
def test_real_logs_raise_no_alarm(shared_data: Path, tmp_path: Path, folder: str, as_of: str) -> None:
    source, settings = sources.get_preset(folder), Settings(home=tmp_path)
    files = sorted((shared_data / folder).iterdir())
    lake = scratch_lake((chunk for file in files for chunk in read_events(file, source)), tmp_path)
    task = PredictionTask.from_settings(settings, source.timezone)
    instant: datetime = parse_instant(as_of, source.timezone)
    report = inspect_leakage(build_guard_data(lake, task, ("daily",), instant, settings))
    assert (report.verdict, report.findings) == ("clean", ())


def test_the_user_table_is_refused_for_its_segment_alone(shared_data: Path, tmp_path: Path) -> None:
    source = sources.get_preset("app_profile")
    report = inspect_log(shared_data / PROFILES, source, Settings(home=tmp_path))
    assert report.refused == ("user_segment",)
    (finding,) = (entry for entry in report.findings if entry.check == "b")
    named = {entry["value"] for entry in finding.evidence["values"]}
    assert named == {"Young Browser", "Adult Browser", "Senior Browser"}
    allowed = inspect_log(shared_data / PROFILES, source, Settings(home=tmp_path), ["user_segment"])
    first_visit = allowed.model["first-visit"]
    assert allowed.verdict == "leaky"
    assert first_visit["auc"] > 0.92
    assert first_visit["without"]["auc"] < 0.75


def test_rule_that_flags_every_buyer_and_power_user_reproduces_the_headline(
    shared_data: Path, tmp_path: Path
) -> None:
    source = sources.get_preset("app_profile")
    lake = scratch_lake(read_events(shared_data / PROFILES, source), tmp_path)
    task = PredictionTask(timezone=source.timezone)
    newest = lake.state().last_event
    assert newest is not None
    pairs = first_visit_pairs(lake, newest - task.horizon)
    with gzip.open(shared_data / PROFILES, "rt") as raw:
        segment = pd.read_csv(raw, dtype="str").set_index("user_id")["user_segment"]
    flagged = pairs["user_id"].map(segment).str.contains("Buyer|Power User").to_numpy(bool)

    def leak_figures(rows: pd.DataFrame) -> tuple[float, float]:
        bought = label_pairs(lake, task, Pairs.validate(rows)).to_numpy(bool)
        precision, recall = (bought & flagged).sum() / flagged.sum(), (bought & flagged).sum() / bought.sum()
        return 2 * precision * recall / (precision + recall), recall

    assert leak_figures(pairs) == pytest.approx((0.903, 0.996), abs=0.001)
    # The raw dates have whole hours: 155 purchases exactly a day after the visit are not in its 24 hours.
    at_the_visit = pairs.assign(as_of=(pairs["as_of"] - FIRST_VISIT_DELAY).dt.as_unit("ms"))
    assert leak_figures(at_the_visit) == pytest.approx((0.890, 1.0), abs=0.001)


@pytest.fixture
def run_command(
    home: Path, settings: Settings, empty_registry: Settings
) -> Iterator[Callable[..., tuple[int, dict[str, Any]]]]:
    """Run a command on a home and a database of its own; returns the exit code and the JSON object."""
    assert settings.mongodb_uri is not None
    copy_registry(empty_registry, home)
    variables = {
        "RETAIL_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
        "RETAIL_SEARCH_ROWS": "3000",
        "RETAIL_FIT_ROWS": "12000",
    }

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = retail(*arguments, "--json", home=home, **variables)
        (line,) = done.stdout.splitlines()
        return done.returncode, json.loads(line)

    yield run
    drop_database(settings)


def test_the_old_headline_is_reproduced_only_with_the_leak_and_never_promoted(
    shared_data: Path, run_command: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    code, _ = run_command("ingest", str(shared_data / PROFILES), "--source", "app_profile")
    assert code == 0
    code, refused = run_command("train", "--target-recall", "1.0")
    assert code == 1
    assert "user_segment" in refused["error"]
    assert "--allow-leak user_segment" in refused["remedy"]
    code, report = run_command("train", "--target-recall", "1.0", "--allow-leak", "user_segment")
    assert code == 0, report
    assert report["certificate"]["missed"] == 0
    assert report["metrics"]["contact_recall"] >= 0.98
    assert 0.87 <= report["metrics"]["f1"] <= 0.93
    assert report["leakage"]["model"]["first-visit"]["without"]["auc"] < 0.75
    assert not report["promoted"]
    code, answer = run_command("models", "promote", report["version"])
    assert code == 1
    assert "leaks the label" in answer["error"]
