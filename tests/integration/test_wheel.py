"""The wheel, installed into an environment of its own, works from an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from email.parser import Parser
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.conftest import clean_environment

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
REGISTER_DEPLOYMENTS = """
import subprocess
from retail_core.settings import load_settings
from retail_core.stack.services import ROOT, environment, services

settings = load_settings()
commands = {service.name: service.command for service in services(settings, lambda: True)}
for name in ("pool", "deployments"):
    subprocess.run(commands[name], cwd=ROOT, env=environment(settings), check=True)
print(ROOT)
"""


def run(*command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command that must succeed; no path of this process leads to the repository."""
    outside = {
        name: value
        for name, value in (environment or clean_environment()).items()
        if name != "PYTHONPATH" and not name.startswith("COVERAGE_")
    }
    completed = subprocess.run(
        command, cwd=cwd, env=outside, capture_output=True, text=True, timeout=300, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a new environment: the project is the wheel's, all else is what runs the tests.

    Python reads .pth files in the environment's own site-packages only, so the one that puts
    the repository on the path of the tests' environment has no effect here.
    """
    prefix = tmp_path_factory.mktemp("environment")
    venv.create(prefix, symlinks=True)
    python = prefix / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel)
    return python.parent


def test_the_wheel_has_the_files_that_are_no_modules_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"flows/prefect.yaml", "app/.streamlit/config.toml", "retail_core/py.typed"} <= names
    folders = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert folders == {"retail_core", "flows", "bentos", "app"}


def test_the_command_runs_and_its_version_is_the_packages(
    wheel: Path, programs: Path, tmp_path: Path
) -> None:
    assert "simulate" in run(programs / "retail", "--help", cwd=tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert run(programs / "retail", "--version", cwd=tmp_path).strip() == metadata["Version"]


def test_doctor_finds_nothing_missing(programs: Path, tmp_path: Path) -> None:
    report = json.loads(run(programs / "retail", "doctor", "--json", cwd=tmp_path))
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert (states["python"], states["mlflow"], states["mongodb"]) == ("ok", "ok", "ok")


def test_the_stack_registers_the_wheels_deployments(
    programs: Path, prefect_environment: dict[str, str], tmp_path: Path
) -> None:
    environment = prefect_environment | {"RETAIL_HOME": str(tmp_path / "home")}
    printed = run(programs / "python", "-c", REGISTER_DEPLOYMENTS, cwd=tmp_path, environment=environment)
    folder = Path(printed.splitlines()[-1])
    assert folder.is_relative_to(programs.parent)
    api = prefect_environment["PREFECT_API_URL"]
    deployments: list[dict[str, Any]] = httpx.post(f"{api}/deployments/filter", json={}, timeout=60).json()
    described = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert {deployment["name"] for deployment in deployments} == {entry["name"] for entry in described}
    for deployment in deployments:
        (step,) = deployment["pull_steps"]
        assert step["prefect.deployments.steps.set_working_directory"]["directory"] == str(folder)
        assert (folder / deployment["entrypoint"].split(":")[0]).is_file()
