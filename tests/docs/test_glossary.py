"""Every code name of the glossary exists in the source tree."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
PACKAGES = ("retail_core", "flows", "bentos", "app")


class Row(NamedTuple):
    term: str
    meaning: str
    code_names: tuple[str, ...]


def glossary_rows() -> list[Row]:
    lines = (ROOT / "docs" / "glossary.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [
        Row(term, meaning, tuple(re.findall(r"`([^`]+)`", code)))
        for term, meaning, code in cells
        if term != "term" and set(term) != {"-"}
    ]


def defined_names(tree: ast.AST) -> Iterator[str]:
    """Names that the code below `tree` defines: classes, functions, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


@cache
def source_names() -> dict[str, set[str]]:
    """Names defined anywhere under the key "", and by class the names defined in its body."""
    names: defaultdict[str, set[str]] = defaultdict(set)
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        names[""] |= set(defined_names(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                names[node.name] |= set(defined_names(node)) - {node.name}
    return dict(names)


def exists(code_name: str) -> bool:
    if "/" in code_name:
        return (ROOT / code_name).exists()
    owner, _, member = code_name.rpartition(".")
    return member in source_names().get(owner, set())


@pytest.mark.parametrize("row", glossary_rows(), ids=lambda row: row.term)
def test_the_code_names_of_a_term_exist(row: Row) -> None:
    assert row.code_names, f"{row.term} has no code name"
    assert [name for name in row.code_names if not exists(name)] == []


def test_each_term_is_listed_once_and_explained_in_one_sentence() -> None:
    rows = glossary_rows()
    assert len(rows) > 60
    assert len({row.term for row in rows}) == len(rows)
    assert [row.term for row in rows if not row.meaning.endswith(".") or len(row.meaning) > 110] == []


@pytest.mark.parametrize(
    "code_name", ["NoSuchName", "ModelSpec.no_such_field", "retail_core/no_such_file.py"]
)
def test_a_name_that_does_not_exist_is_noticed(code_name: str) -> None:
    assert exists("ModelSpec.self_test")
    assert not exists(code_name)
