"""The flows on the command line: their reports, the artifacts in the Prefect UI, and their errors."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from retail_core import sources
from retail_core.ingest import ingest
from retail_core.registry.promotion import Author, promote
from retail_core.scoring.backfill import unscored_midnights
from retail_core.settings import Settings
from retail_core.stack.services import variables
from retail_core.store.mongo.connection import Store, open_store
from retail_core.workspace import Workspace
from tests.command_line import retail
from tests.serving import register_variant
from tests.stored_traces import traces_in_files

if TYPE_CHECKING:
    from tests.integration.conftest import FlowShop

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]


def test_ingest_counts_add_up_and_are_published(flow_shop: FlowShop) -> None:
    report = flow_shop.reports["ingest"]
    counted = report["events_inserted"] + report["duplicates"] + report["quarantined"]
    assert report["rows_read"] == counted > 10_000
    table = {row["what"]: row["count"] for row in json.loads(flow_shop.artifacts["ingest-counts"])}
    assert table["events_inserted"] == table["events in the lake"] == report["events_inserted"]


def test_training_metrics_name_population_period_and_base_rate(flow_shop: FlowShop) -> None:
    report = flow_shop.reports["train"]
    assert report["promoted"] is True
    page = flow_shop.artifacts["training"]
    metrics = report["metrics"]
    period = (metrics["first_cutoff"], metrics["last_cutoff"])
    expected_texts = (metrics["population"], *period, "base rate", "| ap |")
    assert not [text for text in expected_texts if text not in page]


def test_scores_are_written_and_the_top_users_are_published(flow_shop: FlowShop) -> None:
    report = flow_shop.reports["score"]
    written = pd.read_csv(Path(report["file"]), dtype={"user_id": str})
    assert len(written) == report["users"] > 100
    table = json.loads(flow_shop.artifacts["score-top-users"])
    assert [row["probability"] for row in table] == written["probability"].head(20).tolist()
    assert flow_shop.messages["score"].startswith(f"{report['users']} users scored")


def test_the_history_of_prefect_has_no_user(flow_shop: FlowShop) -> None:
    written = pd.read_csv(Path(flow_shop.reports["score"]["file"]), dtype={"user_id": str})
    prefect_home = Path(flow_shop.environment["PREFECT_HOME"])
    assert traces_in_files(["score-top-users"], prefect_home), "the scan reads the database"
    assert not traces_in_files(written["user_id"], prefect_home)


def test_without_matured_predictions_the_retrain_run_is_skipped(flow_shop: FlowShop) -> None:
    report, checked = flow_shop.run_in_one_process(
        ("outcomes", "--as-of", flow_shop.scored.isoformat()),
        ("retrain", "--as-of", flow_shop.later.isoformat()),
    )
    assert (report["matured"], report["metrics"]) == (0, None)
    names = {check["name"] for check in checked["triggers"]}
    assert names >= {"new_data", "performance", "calibration", "drift", "age"}
    assert (checked["retrained"], checked["version"], checked["promoted"]) == (False, None, False)
    state = flow_shop.last_state("retrain")
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    shown = json.loads(flow_shop.artifact("retrain-triggers"))
    assert {"name", "fired", "value", "limit", "evidence"} <= set(shown[0])


def test_monitor_and_backfill_publish_what_they_did(flow_shop: FlowShop) -> None:
    at = flow_shop.scored.isoformat()
    report, filled = flow_shop.run_in_one_process(
        ("monitor", "--as-of", at), ("backfill", "--first", at, "--last", at)
    )
    assert report["model_version"] == "1"
    shown = json.loads(flow_shop.artifact("monitor-triggers"))
    assert [row["name"] for row in shown] == [check["name"] for check in report["triggers"]]
    assert filled["scored"] == []
    state = flow_shop.last_state("backfill")
    assert (state["name"], state["message"]) == ("Skipped", "every midnight has predictions")


def test_midnights_without_predictions_are_found(flow_shop: FlowShop) -> None:
    day = timedelta(days=1)
    with open_store(flow_shop.settings) as store:
        workspace = Workspace.synchronized(store)
        missing = unscored_midnights(workspace, flow_shop.scored - 2 * day, flow_shop.scored + 30 * day)
        newest = workspace.newest_event
    assert missing[:2] == [flow_shop.scored - 2 * day, flow_shop.scored - day]
    assert flow_shop.scored not in missing
    assert newest - day < missing[-1] <= newest


def test_the_flow_scores_the_next_day_as_the_command_does(flow_shop: FlowShop) -> None:
    names = {name: value for name, value in flow_shop.environment.items() if name.startswith("RETAIL_")}
    done = retail("score", "--no-store", "--json", home=flow_shop.settings.home_dir, **names)
    assert done.returncode == 0, done.stderr
    command = json.loads(done.stdout)
    assert command["as_of"] == "2025-02-04T00:00:00Z"
    assert {**flow_shop.scored_next_day, "seconds": 0, "file": 0} == {**command, "seconds": 0, "file": 0}


def test_a_user_error_is_one_line_also_without_a_prefect_server(flow_shop: FlowShop, tmp_path: Path) -> None:
    empty = {"PREFECT_API_URL": "", "PREFECT_HOME": "", "RETAIL_HOME": str(tmp_path / "home")}
    done = flow_shop.run("ingest", str(tmp_path / "missing.csv"), "--json", **empty)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert set(json.loads(line)) == {"error", "remedy"}
    assert "missing.csv" in json.loads(line)["error"]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "home" / "prefect").is_dir()


def test_a_file_that_was_read_otherwise_is_replaced_again(
    flow_shop: FlowShop, store: Store, tmp_path: Path
) -> None:
    log, mapping = tmp_path / "log.csv", tmp_path / "shop.yaml"
    log.write_text("user_id,event_time,event_type\nu1,2025-01-01,buy\n")
    mapping.write_text("extends: canonical\nname: shop\nevent_types: {buy: purchase}\n")
    ingest(store, [log], sources.get_preset("canonical"), at=datetime(2025, 1, 2, tzinfo=UTC))
    arguments = (str(log), "--mapping", str(mapping), "--again", "--json")
    done = flow_shop.run("ingest", *arguments, **home_of(store.settings))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events_inserted"] == 1
    assert [event["event_type"] for event in store.events.find()] == ["purchase"]


def home_of(settings: Settings) -> dict[str, str]:
    """The variables that lead a flow to another home than that of the shop."""
    set_variables = variables(settings).items()
    return {name: value for name, value in set_variables if value and name.startswith("RETAIL_")}


def test_the_rollback_flow_rolls_a_version_back_once(flow_shop: FlowShop, registered: Settings) -> None:
    worse = register_variant(registered, factor=0.5)
    with open_store(registered) as store:
        promote(store, worse, Author("test"))
    arguments = ("rollback", "--from", worse, "--reason", "too few buyers", "--json")
    reports = []
    for _ in range(2):
        done = flow_shop.run(*arguments, **home_of(registered))
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(done.stdout))
    assert [(report["version"], report["repeated"]) for report in reports] == [("1", False), ("1", True)]
    assert reports[0]["reason"] == "too few buyers"
    assert ", run rollback" in reports[0]["actor"]
    assert (
        f"version 1 is in production again: {reports[0]['reason']}"
        in flow_shop.last_state("rollback")["message"]
    )
    assert "too few buyers" in flow_shop.artifact("rollback")


def test_the_recalibrate_flow_fails_with_a_remedy(flow_shop: FlowShop, registered: Settings) -> None:
    at = ("--as-of", flow_shop.scored.isoformat())
    done = flow_shop.run("recalibrate", "--version", "99", *at, "--json", **home_of(registered))
    assert done.returncode == 1, done.stderr
    assert "version 99" in json.loads(done.stdout)["error"]
    assert flow_shop.last_state("recalibrate")["type"] == "FAILED"


WATCH = "from flows.ingest import ingest_flow; print(ingest_flow(return_state=True).message)"


def test_the_watched_folder_is_ingested_once(flow_shop: FlowShop, store: Store, tmp_path: Path) -> None:
    """A file that has not changed for minutes; the second run finds nothing new."""
    log = tmp_path / "inbox" / "log.csv"
    log.parent.mkdir()
    log.write_text("user_id,event_time,event_type\nu1,2025-01-01,view_item\n")
    os.utime(log, (1_735_700_000, 1_735_700_000))
    environment = home_of(store.settings) | {"RETAIL_INBOX": str(log.parent)}
    for expected in ("1 ingested", "no new file"):
        done = flow_shop.run_python(WATCH, **environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == expected
    assert store.events.count_documents({}) == 1


REFUSED = """
import sys
from pathlib import Path
from flows.ingest import ingest_flow

folder = Path(sys.argv[1])
print(ingest_flow(folder=folder, return_state=True).message)
(folder / "log.csv").touch()
print(ingest_flow(folder=folder, source="ga4", mapping=folder / "m.yaml", return_state=True).message)
"""


def test_parameters_that_name_nothing_or_contradict_fail_with_a_remedy(
    flow_shop: FlowShop, tmp_path: Path
) -> None:
    done = flow_shop.run_python(REFUSED, str(tmp_path))
    assert done.returncode == 0, done.stderr
    empty, contradictory = done.stdout.splitlines()[-2:]
    assert empty.startswith("There is no file to ingest.")
    assert contradictory.startswith("A file has a source or a mapping, not both.")


def test_exit_codes_of_usage_errors_and_unreachable_dependencies(flow_shop: FlowShop) -> None:
    assert flow_shop.run("score", "--no-such-option").returncode == 2
    done = flow_shop.run("score", "--json", RETAIL_MONGODB_URI="mongodb://127.0.0.1:9/")
    assert done.returncode == 3
    assert "MongoDB" in json.loads(done.stdout)["error"]
