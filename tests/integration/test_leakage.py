"""The leakage guard on whole logs: logs without leakage pass, planted leaks are refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from retail_core import sources
from retail_core.features.feature_set import default_feature_set
from retail_core.features.prediction_task import PredictionTask
from retail_core.model.leakage import GuardData, inspect_leakage
from retail_core.model.leakage.future_removal import check_future_removal, truncate_lake
from retail_core.model.leakage.guard_data import draw_sample
from retail_core.settings import Settings
from retail_core.simulate import SimulationConfig, simulate
from retail_core.sources.event_reader import read_events
from retail_core.store.lake.reader import Lake
from retail_core.store.lake.scratch_lake import scratch_lake
from retail_core.times import last_midnight
from retail_core.training.leakage_inspection import build_guard_data
from tests.command_line import retail
from tests.home_copies import copy_registry, drop_database

pytestmark = [pytest.mark.integration, pytest.mark.long]


def json_output(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (line,) = done.stdout.splitlines()
    content: dict[str, Any] = json.loads(line)
    return content


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    simulate(SimulationConfig(users=700, days=32, seed=11, start=date(2025, 1, 1)), path, None)
    return path


def planted_event(log: Path, before: str) -> Path:
    """The log with a confirmation event stamped `before` each purchase."""
    events = pd.read_csv(log, dtype="str")
    bought = events[events["event_type"] == "purchase"].copy()
    times = pd.to_datetime(bought["event_time"], utc=True, format="ISO8601") - pd.Timedelta(before)
    bought["event_time"] = times.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    bought["event_type"] = "order_confirmation"
    path = log.with_name(f"confirmed-{before.replace(' ', '')}.csv")
    pd.concat([events, bought]).to_csv(path, index=False)
    return path


def planted_attribute(log: Path) -> tuple[Path, Path]:
    """The log with a column that only buyers have, and the mapping that makes it an attribute."""
    events = pd.read_csv(log, dtype="str")
    buyers = set(events["user_id"][events["event_type"] == "purchase"])
    events["card"] = np.where(events["user_id"].isin(buyers), "gold", "basic")
    events["shoe_size"] = (pd.util.hash_array(events["user_id"].to_numpy(object)) % 11 + 36).astype("str")
    path, mapping = log.with_name("cards.csv"), log.with_name("cards.yaml")
    events.to_csv(path, index=False)
    mapping.write_text("extends: canonical\nname: cards\nattributes: {card: text, shoe_size: number}\n")
    return path, mapping


def test_doctor_reports_a_log_without_leakage_as_clean(log: Path, tmp_path: Path) -> None:
    done = retail("doctor", "--leakage", str(log), "--json", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json_output(done)
    assert (report["ok"], report["verdict"], report["findings"]) == (True, "clean", [])
    assert {entry["check"] for entry in report["checked"]} == set("abcdef")
    assert list(tmp_path.iterdir()) == [], "nothing is stored"


@pytest.mark.parametrize("before", ["6h", "1h"])
def test_doctor_names_an_event_stamped_before_the_purchase_it_follows(
    log: Path, before: str, tmp_path: Path
) -> None:
    path = planted_event(log, before)
    done = retail("doctor", "--leakage", str(path), "--json", home=tmp_path)
    assert done.returncode == 1, done.stdout
    report = json_output(done)
    assert report["refused"] == ["order_confirmation"]
    findings = [finding for finding in report["findings"] if finding["check"] == "c"]
    assert findings
    assert all(finding["evidence"]["purity"] > 0.98 for finding in findings)
    assert "--allow-leak order_confirmation" in report["remedy"]


def test_event_after_or_a_second_before_the_purchase_is_no_leak(log: Path, tmp_path: Path) -> None:
    after = retail("doctor", "--leakage", str(planted_event(log, "-1min")), "--json", home=tmp_path)
    assert (after.returncode, json_output(after)["findings"]) == (0, [])
    second = retail("doctor", "--leakage", str(planted_event(log, "1s")), "--json", home=tmp_path)
    assert second.returncode == 0
    assert {(finding["column"], finding["verdict"]) for finding in json_output(second)["findings"]} == {
        ("order_confirmation", "warn")
    }


def test_doctor_names_an_attribute_that_only_buyers_have(log: Path, tmp_path: Path) -> None:
    path, mapping = planted_attribute(log)
    done = retail("doctor", "--leakage", str(path), "--mapping", str(mapping), "--json", home=tmp_path)
    assert done.returncode == 1, done.stdout
    assert json_output(done)["refused"] == ["card"]


def test_doctor_inspects_a_table_and_names_missing_options(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    bought = rng.random(3_000) < 0.2
    table = pd.DataFrame({"bought": bought.astype(int), "age": rng.integers(18, 80, 3_000)})
    table.to_parquet(tmp_path / "honest.parquet")
    table.assign(basket=np.where(bought, 3.0, np.nan)).to_csv(tmp_path / "leaky.csv", index=False)
    home = tmp_path / "home"
    honest = retail("doctor", "--leakage", str(tmp_path / "honest.parquet"), "--label", "bought", home=home)
    assert (honest.returncode, "Leakage: clean" in honest.stdout) == (0, True), honest.stderr
    leaky = retail("doctor", "--leakage", str(tmp_path / "leaky.csv"), "--label", "bought", home=home)
    assert leaky.returncode == 1
    assert "basket" in leaky.stderr
    for file, message in (("honest.parquet", "--label"), ("nothing.csv", "check the path")):
        done = retail("doctor", "--leakage", str(tmp_path / file), home=home)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert message in done.stderr


@pytest.fixture(scope="module")
def guarded_log(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, GuardData]:
    """Guard data of two policies on the log without leakage."""
    lake = scratch_lake(read_events(log, sources.get_preset("canonical")), tmp_path_factory.mktemp("scratch"))
    newest = lake.state().last_event
    assert newest is not None
    settings = Settings(home=log.parent)
    as_of = last_midnight(newest, "Europe/Berlin")
    task = PredictionTask.from_settings(settings, "Europe/Berlin")
    return lake, build_guard_data(lake, task, ("daily", "first-visit"), as_of, settings)


@pytest.mark.parametrize("policy", ["daily", "first-visit"])
def test_column_that_depends_on_later_events_is_found(
    guarded_log: tuple[Lake, GuardData], policy: str
) -> None:
    _, guard_data = guarded_log
    sample = draw_sample(guard_data, policy)
    assert not list(check_future_removal(guard_data, sample))
    place = guard_data.feature_set.columns.index("event_count_7d")
    sample.matrix[:, place] += np.arange(len(sample.rows)) % 2
    (finding,) = check_future_removal(guard_data, sample)
    assert (finding.column, finding.verdict) == ("event_count_7d", "refuse")
    assert 0 < finding.evidence["changed"] <= finding.evidence["n"]


def test_cut_lake_ends_at_the_cut_off(guarded_log: tuple[Lake, GuardData], tmp_path: Path) -> None:
    lake, guard_data = guarded_log
    rows = guard_data.rows[guard_data.rows["policy"].eq("daily")]
    all_events = pd.concat([pd.read_parquet(file) for file in lake.files()])
    instant = rows["as_of"].iloc[len(rows) // 2]
    together = truncate_lake(lake, rows[rows["as_of"].eq(instant)], tmp_path)
    truncated_events = pd.concat([pd.read_parquet(file) for file in together.files()])
    assert set(truncated_events["event_id"]) == set(
        all_events["event_id"][all_events["event_time"] < instant]
    )
    assert len(truncated_events) == truncated_events["event_id"].nunique()
    own_cutoffs = rows.sample(frac=1, random_state=1).drop_duplicates("user_id").head(50)
    alone = pd.read_parquet(truncate_lake(lake, own_cutoffs, tmp_path).files()[0])
    limit = alone["user_id"].map(own_cutoffs.set_index("user_id")["as_of"])
    assert (alone["event_time"] < limit).all()
    assert (
        len(alone)
        == (
            all_events["event_time"] < all_events["user_id"].map(own_cutoffs.set_index("user_id")["as_of"])
        ).sum()
    )


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_simulated_logs_are_clean(seed: int, tmp_path: Path) -> None:
    simulate(
        SimulationConfig(users=500, days=28, seed=seed, start=date(2025, 3, 1)), tmp_path / "log.csv", None
    )
    lake = scratch_lake(read_events(tmp_path / "log.csv", sources.get_preset("canonical")), tmp_path)
    newest = lake.state().last_event
    assert newest is not None
    settings = Settings(home=tmp_path)
    task = PredictionTask.from_settings(settings, "UTC")
    guard_data = build_guard_data(
        lake, task, ("daily", "first-visit"), last_midnight(newest, "UTC"), settings
    )
    assert guard_data.feature_set == default_feature_set(task)
    report = inspect_leakage(guard_data)
    assert (report.verdict, report.findings) == ("clean", ())


@pytest.fixture
def run(
    home: Path, settings: Settings, empty_registry: Settings
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run a command on a home and a database of its own."""
    assert settings.mongodb_uri is not None
    copy_registry(empty_registry, home)
    variables = {
        "RETAIL_MONGODB_URI": settings.mongodb_uri.get_secret_value(),
        "RETAIL_MONGODB_DATABASE": settings.mongodb_database,
        "RETAIL_SEARCH_ROWS": "1500",
        "RETAIL_FIT_ROWS": "3000",
    }
    yield lambda *arguments: retail(*arguments, "--json", home=home, **variables)
    drop_database(settings)


def test_training_refuses_or_marks_leaks_and_never_promotes_a_leaky_version(
    log: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path, mapping = planted_attribute(log)
    assert run("ingest", str(path), "--mapping", str(mapping)).returncode == 0
    refused = run("train")
    assert refused.returncode == 1
    output = json_output(refused)
    assert "card" in output["error"]
    assert "--allow-leak card" in output["remedy"]
    assert json_output(run("models", "list"))["versions"] == []

    unknown = run("train", "--allow-leak", "cart")
    assert unknown.returncode == 1
    assert "no column 'cart' to allow" in json_output(unknown)["error"]

    allowed = run("train", "--allow-leak", "card", "--model", "logistic")
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    report = json_output(allowed)
    assert not report["promoted"]
    assert (report["leakage"]["verdict"], report["leakage"]["allowed"]) == ("leaky", ["card"])
    assert report["leakage"]["model"]["daily"]["without"]["columns"] == ["card"]
    by_hand = run("models", "promote", report["version"])
    assert by_hand.returncode == 1
    assert "leaks the label" in json_output(by_hand)["error"]
    assert json_output(run("models", "list"))["production"] is None
