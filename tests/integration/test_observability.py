"""What the running service tells its operator: logs, request ids, metrics."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.serving import Service

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"

pytestmark = pytest.mark.integration


def test_every_line_of_the_log_is_json_and_requests_are_found_by_their_id(
    registered_service: Service,
) -> None:
    client = registered_service.client
    trace = "0af7651916cd43dd8448eb211c80319c"
    sent = {"X-Request-ID": "order-7", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    answers = [
        client.post("/predict", json={"user_id": "u", "features": {}}, headers=sent),
        client.get("/livez", headers=sent),
        client.get("/jobs/none", headers=sent),
    ]
    for answer in answers:
        assert answer.headers["x-request-id"] == "order-7"
        assert trace in answer.headers["traceparent"]
    time.sleep(1.0)
    entries = [json.loads(line) for line in registered_service.log.read_text().splitlines()]
    assert all({"time", "level", "logger"} <= set(entry) for entry in entries)
    logged = [entry for entry in entries if entry.get("request_id") == "order-7" and "route" in entry]
    assert [(entry["route"], entry["trace_id"], entry["key"]) for entry in logged] == [
        ("/predict", trace, "local"),
        ("/livez", trace, "-"),
        ("/jobs/{job_id}", trace, "local"),
    ]


def test_dashboard_and_alert_rules_name_metrics_and_labels_that_exist(registered_service: Service) -> None:
    client = registered_service.client
    client.post("/predict", json={"user_id": "u", "features": {}})
    client.post("/predict", content=b"no json")
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    names = {name for family in families for name in sample_names(family)}
    labels = {label for family in families for sample in family.samples for label in sample.labels}
    expressions = [rule["expr"] for rule in alert_rules()] + [target["expr"] for target in panel_targets()]
    assert len(expressions) >= 40
    for expression in expressions:
        used = set(re.findall(r"\b(?:retail|bentoml)_\w+", expression))
        assert used, expression
        assert used <= names, expression
        groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
        matchers = re.findall(r"[{,]\s*(\w+)\s*(?:=|!)", expression)
        named = {label.strip() for group in groups for label in group.split(",")} | set(matchers)
        assert named <= labels | {"le", "trigger", "outcome"}, expression


def sample_names(family: Metric) -> set[str]:
    """Names of the samples of a family, also where it has none yet."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {family.name + suffix for suffix in suffixes.get(family.type, ("",))}


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panel_targets() -> list[dict[str, Any]]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
