"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("retail_core", "flows", "bentos", "app")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EDGES = ("cli", "stack")
"""Where `retail_core` may ask what time it is."""


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_domain_imports_none_of_its_edges() -> None:
    forbidden = {"prefect", "bentoml", "streamlit", "flows", "bentos", "app"}
    found = {
        (path.name, name)
        for path in MODULES
        if "retail_core" in path.parts
        for name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in forbidden
    }
    assert not found


def test_only_the_registry_talks_to_mlflow() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if any(name.split(".")[0] == "mlflow" for name in imported(ast.parse(path.read_text())))
    }
    assert found <= {f"retail_core/model/{name}.py" for name in ("registry", "mlflow_session", "runtime")}


def test_the_domain_has_no_clock_and_reads_no_environment() -> None:
    clocks = (
        "datetime.now(",
        "utcnow(",
        "time.time(",
        "Timestamp.now(",
        "date.today(",
        "os.environ",
        "getenv(",
    )
    found = [
        (str(path.relative_to(ROOT)), clock)
        for path in MODULES
        if "retail_core" in path.parts and not set(EDGES) & set(path.parts)
        for clock in clocks
        if clock in path.read_text()
    ]
    allowed = {"retail_core/stack/demo.py", "retail_core/store/mongod/idle_supervisor.py"}
    assert not [entry for entry in found if entry[0] not in allowed]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 250
