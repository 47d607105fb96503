"""Rules about imports, clocks and module size that hold for the whole source tree."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("retail_core", "flows", "bentos", "app")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EDGES = ("cli", "stack", "settings", "settings_files", "s3_variables")
"""Packages and modules of `retail_core` that may read the clock and the environment."""

VAGUE_NAMES = frozenset(
    """again answers asked chosen drawn found given held here judged kept known mine one others own
    parts rest said seen taken theirs there told wanted who whole""".split()  # noqa: SIM905
)
"""Names that do not say what the value is."""


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_only_the_registry_talks_to_mlflow() -> None:
    importers = {
        str(path.relative_to(ROOT))
        for path in MODULES
        if any(name.split(".")[0] == "mlflow" for name in imported(ast.parse(path.read_text())))
    }
    assert importers <= {f"retail_core/registry/{name}.py" for name in ("versions", "runs", "mlflow_session")}


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


def test_the_files_that_deployments_and_builds_start_from_are_at_the_top() -> None:
    folders = (*PACKAGES, "tests")
    files = ("prefect.yaml", "bentofile.yaml", "pyproject.toml")
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert all((ROOT / file).is_file() for file in files)


def test_no_two_modules_of_the_domain_have_the_same_file_name() -> None:
    domain = [path for path in MODULES if "retail_core" in path.relative_to(ROOT).parts]
    counts = Counter(path.name for path in domain if not path.name.startswith("__"))
    assert not [name for name, count in counts.items() if count > 1]


def test_unit_tests_mirror_the_source_tree() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("test_*.py")}
    assert not [
        folder for folder in folders if not any((ROOT / top / folder).is_dir() for top in ("", "retail_core"))
    ]


def test_names_say_what_a_value_is() -> None:
    vague_names = {
        (str(path.relative_to(ROOT)), name)
        for path in MODULES
        for name in assigned_names(ast.parse(path.read_text()))
        if name in VAGUE_NAMES
    }
    assert not vague_names


def assigned_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
