"""What can be known of the container stack without an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_core.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
ONE_TIME_SERVICES = {"replica-set"}


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert ("healthcheck" in service) == (name not in ONE_TIME_SERVICES)
    assert all(volume.split(":")[0] in COMPOSE["volumes"] for volume in service.get("volumes", ()))


def test_the_ports_are_published_on_the_loopback_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    inside = {"PREFECT": 4200, "MLFLOW": 5000, "API": 8080, "APP": 8501}
    expected_ports = [f"127.0.0.1:${{RETAIL_{name}_PORT:-{port}}}:{port}" for name, port in inside.items()]
    assert sorted(ports) == sorted(expected_ports)


def test_every_setting_exists_and_no_secret_is_written_down() -> None:
    setting_variables = {f"RETAIL_{name.upper()}" for name in Settings.model_fields}
    for service in COMPOSE["services"].values():
        variables = service.get("environment", {})
        assert {name for name in variables if name.startswith("RETAIL_")} <= setting_variables
        secrets = [value for name, value in variables.items() if name.endswith(("KEYS", "PASSWORD"))]
        assert all(value.startswith("${") and ":?" in value for value in secrets)


def test_what_the_images_copy_is_there() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    targets = {line.split()[-1] for line in lines if line.startswith("FROM")}
    built = {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service}
    assert built == targets - {"base"}
