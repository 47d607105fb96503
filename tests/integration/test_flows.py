"""The flows on the command line: their reports, the artifacts in the Prefect UI, and their errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

if TYPE_CHECKING:
    from tests.integration.conftest import FlowShop

pytestmark = pytest.mark.integration


def artifact(shop: FlowShop, key: str) -> dict[str, Any]:
    newest: dict[str, Any]
    (newest,) = shop.post("artifacts/latest/filter", {"artifacts": {"key": {"any_": [key]}}})
    return newest


def last_run(shop: FlowShop, flow: str) -> dict[str, Any]:
    runs = shop.post(
        "flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC", "limit": 1}
    )
    newest: dict[str, Any] = runs[0]
    return newest


def test_ingest_counts_add_up_and_are_published(flow_shop: FlowShop) -> None:
    report = flow_shop.reports["ingest"]
    counted = report["events_inserted"] + report["duplicates"] + report["quarantined"]
    assert report["rows_read"] == counted > 10_000
    table = {row["what"]: row["count"] for row in json.loads(artifact(flow_shop, "ingest-counts")["data"])}
    assert table["events_inserted"] == table["events in the lake"] == report["events_inserted"]


def test_training_metrics_name_population_period_and_base_rate(flow_shop: FlowShop) -> None:
    report = flow_shop.reports["train"]
    assert report["promoted"] is True
    page = artifact(flow_shop, "training")["data"]
    metrics = report["metrics"]
    period = (metrics["first_cutoff"], metrics["last_cutoff"])
    expected_texts = (metrics["population"], *period, "base rate", "| ap |")
    assert not [text for text in expected_texts if text not in page]


def test_scores_are_written_and_the_top_users_are_published(flow_shop: FlowShop) -> None:
    report = flow_shop.reports["score"]
    written = pd.read_csv(Path(report["file"]), dtype={"user_id": str})
    assert len(written) == report["users"] > 100
    table = json.loads(artifact(flow_shop, "score-top-users")["data"])
    assert [row["user_id"] for row in table] == written["user_id"].head(20).tolist()
    assert last_run(flow_shop, "score")["state"]["message"].startswith(f"{report['users']} users scored")


def test_without_matured_predictions_the_retrain_run_is_skipped(flow_shop: FlowShop) -> None:
    report, checked = flow_shop.run_in_one_process(
        ("outcomes", "--as-of", flow_shop.scored.isoformat()),
        ("retrain", "--as-of", flow_shop.later.isoformat()),
    )
    assert (report["matured"], report["metrics"]) == (0, None)
    assert [check["name"] for check in checked["triggers"]] == ["new_data", "performance", "drift"]
    assert (checked["retrained"], checked["version"], checked["promoted"]) == (False, None, False)
    state = last_run(flow_shop, "retrain")["state"]
    assert (state["type"], state["name"]) == ("COMPLETED", "Skipped")
    shown = json.loads(artifact(flow_shop, "retrain-triggers")["data"])
    assert {"name", "fired", "value", "limit", "evidence"} <= set(shown[0])


def test_a_user_error_is_one_line_also_without_a_prefect_server(flow_shop: FlowShop, tmp_path: Path) -> None:
    empty = {"PREFECT_API_URL": "", "PREFECT_HOME": "", "RETAIL_HOME": str(tmp_path / "home")}
    done = flow_shop.run("ingest", str(tmp_path / "missing.csv"), "--json", **empty)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert set(json.loads(line)) == {"error", "remedy"}
    assert "missing.csv" in json.loads(line)["error"]
    assert "Traceback" not in done.stderr
    assert (tmp_path / "home" / "prefect").is_dir()


def test_exit_codes_of_usage_errors_and_unreachable_dependencies(flow_shop: FlowShop) -> None:
    assert flow_shop.run("score", "--no-such-option").returncode == 2
    done = flow_shop.run("score", "--json", RETAIL_MONGODB_URI="mongodb://127.0.0.1:9/")
    assert done.returncode == 3
    assert "MongoDB" in json.loads(done.stdout)["error"]
