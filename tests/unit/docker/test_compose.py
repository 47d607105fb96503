"""What can be known of the container stack without an engine."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from retail_core.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
ONE_TIME_SERVICES = {"mongo-setup"}
RAW_FILES = "${RAW_FILES:-./raw}"
EXAMPLE = ROOT / ".env.example"
SECRETS = ROOT / "docker" / "secrets.sh"
OPTIONAL = {"mongo": {"mongo", "mongo-setup"}, "mlflow": {"mlflow"}, "prefect": {"postgres", "prefect"}}
"""The services of each profile, which a service of one's own replaces."""


def read_variables(path: Path) -> dict[str, str]:
    """Variables of a file of environment variables, as they are written."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def variables_used() -> set[str]:
    """Variables that compose.yaml reads from the shell or `.env`."""
    text = (ROOT / "compose.yaml").read_text().replace("$$", "")
    environments = [service.get("environment", {}) for service in COMPOSE["services"].values()]
    passed_on = {name for names in environments for name, value in names.items() if value is None}
    return set(re.findall(r"\$\{(\w+)", text)) | passed_on


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert ("healthcheck" in service) == (name not in ONE_TIME_SERVICES)
    assert "mem_limit" in service
    named = [volume for volume in service.get("volumes", ()) if volume != f"{RAW_FILES}:/raw:ro"]
    assert all(volume.split(":")[0] in COMPOSE["volumes"] for volume in named)


def test_services_of_ones_own_replace_those_of_a_profile() -> None:
    services = COMPOSE["services"]
    for profile, names in OPTIONAL.items():
        assert {name for name in services if services[name].get("profiles") == [profile]} == names
    always = {name for name in services if "profiles" not in services[name]}
    assert always == {"worker", "api", "app"}
    for name in always:
        dependencies = services[name].get("depends_on", {})
        assert all(dependency["required"] is False for dependency in dependencies.values())
    assert read_variables(EXAMPLE)["COMPOSE_PROFILES"].split(",") == list(OPTIONAL)


def test_the_api_is_healthy_before_the_first_training() -> None:
    api = COMPOSE["services"]["api"]
    assert api["environment"]["RETAIL_WAIT_FOR_MODEL"] == "true"
    assert "/livez" in api["healthcheck"]["test"][-1]
    # `docker compose up --wait` accepts that a service ends only if another waits for its success.
    for name in ONE_TIME_SERVICES:
        waiting = [service.get("depends_on", {}).get(name) for service in COMPOSE["services"].values()]
        assert {entry["condition"] for entry in waiting if entry} == {"service_completed_successfully"}


def test_public_images_have_a_tag_and_a_digest() -> None:
    text = (ROOT / "compose.yaml").read_text()
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    defaults = dict(re.findall(r"\$\{(MONGO_IMAGE|POSTGRES_IMAGE|PYTHON_IMAGE):-([^}]+)\}", text))
    assert len(defaults) == 3
    assert all(re.fullmatch(r"\w+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in defaults.values())
    assert f"ARG PYTHON_IMAGE={defaults['PYTHON_IMAGE']}\n" in dockerfile


def test_the_example_names_every_variable() -> None:
    named = set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(), re.M))
    rarely_set = {name for name in variables_used() if name.endswith(("_IMAGE", "_PORT", "_TOKEN"))}
    assert variables_used() - rarely_set <= named
    read_by_the_example = {"COMPOSE_PROFILES", "PREFECT_PASSWORD"}
    assert set(read_variables(EXAMPLE)) - read_by_the_example <= variables_used()


def test_the_example_has_no_secret_and_the_script_writes_all_of_them(tmp_path: Path) -> None:
    written = tmp_path / ".env"
    subprocess.run([SECRETS, EXAMPLE, written], check=True)
    before, after = read_variables(EXAMPLE), read_variables(written)
    secrets = {name for name, value in before.items() if not value}
    assert {name for name in before if name.endswith(("PASSWORD", "KEY", "KEYS"))} == secrets
    assert all(re.fullmatch("[0-9a-f]{48}", after[name]) for name in secrets)
    assert len({after[name] for name in secrets}) == len(secrets)
    assert {name: value for name, value in after.items() if name not in secrets} == {
        name: value for name, value in before.items() if value
    }
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    again = subprocess.run([SECRETS, EXAMPLE, written], capture_output=True, text=True, check=False)
    assert (again.returncode, read_variables(written)) == (1, after)
    assert "exists" in again.stderr


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
        secrets = [value for name, value in variables.items() if name.endswith(("KEY", "KEYS", "PASSWORD"))]
        assert all(value is None or value.startswith("${") for value in secrets)


def test_what_the_images_copy_is_there() -> None:
    lines = (ROOT / "docker" / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    sent = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    assert set(copied) <= sent
    targets = {line.split()[-1] for line in lines if line.startswith("FROM")}
    built = {service["build"]["target"] for service in COMPOSE["services"].values() if "build" in service}
    assert built == targets - {"base"}
