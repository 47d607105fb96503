"""The Grafana dashboard and the alert rules of deploy/monitoring have the form that their programs read."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from tests.docs.test_references import unknown_words

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
SEVERITIES = {"critical", "warning", "info"}


def test_alert_rules_have_what_prometheus_needs() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[1-9]\d*[smhd]", rule.get("for", "1m")), rule["alert"]
        assert rule["labels"]["severity"] in SEVERITIES
        assert set(rule["annotations"]) == {"summary", "description"}
        assert has_balanced_brackets(rule["expr"])


def test_commands_of_alert_rules_exist() -> None:
    text = " ".join(rule["annotations"]["description"] for rule in RULES)
    commands = re.findall(r"`retail ([^`]+)`", text)
    assert len(commands) >= 5
    assert [command for command in commands if unknown_words(command.split())] == []


def test_panels_have_a_place_of_their_own_and_a_query() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert DASHBOARD["uid"]
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert has_balanced_brackets(target["expr"]), target["expr"]
            assert target["datasource"]["uid"] == "${datasource}"
    for first, second in combinations((panel["gridPos"] for panel in panels), 2):
        assert not overlap(first, second)


def has_balanced_brackets(expression: str) -> bool:
    outside = re.sub(r'"[^"]*"', "", expression)
    return all(outside.count(a) == outside.count(b) for a, b in ("()", "[]", "{}"))


def overlap(first: dict[str, int], second: dict[str, int]) -> bool:
    apart = (
        first["x"] + first["w"] <= second["x"]
        or second["x"] + second["w"] <= first["x"]
        or first["y"] + first["h"] <= second["y"]
        or second["y"] + second["h"] <= first["y"]
    )
    return not apart
