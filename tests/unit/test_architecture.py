"""Rules about imports, clocks and module size that hold for the whole source tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("retail_core", "flows", "bentos", "app")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EDGES = ("cli", "stack", "settings")
"""Packages and modules of `retail_core` that may read the clock and the environment."""


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_domain_imports_none_of_its_edges() -> None:
    forbidden = {"prefect", "bentoml", "streamlit", "flows", "bentos", "app"}
    edge_imports = {
        (path.name, name)
        for path in MODULES
        if "retail_core" in path.parts
        for name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in forbidden
    }
    assert not edge_imports


def test_only_the_registry_talks_to_mlflow() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if any(name.split(".")[0] == "mlflow" for name in imported(ast.parse(path.read_text())))
    }
    assert importers <= {f"retail_core/registry/{name}.py" for name in ("versions", "mlflow_session")}


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
    clock_uses = [
        (str(path.relative_to(ROOT)), clock)
        for path in MODULES
        if "retail_core" in path.parts and not set(EDGES) & {*path.parts, path.stem}
        for clock in clocks
        if clock in path.read_text()
    ]
    assert not clock_uses


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_at_most_350_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350
