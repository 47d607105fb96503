"""The examples of the documentation and of docstrings run."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest
from sybil import Region, Sybil
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    if "```python" in page.read_text()
)
PACKAGES = ("retail_core", "flows", "bentos", "app")
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)
NOT_RUN = re.compile(r"<!-- not run: \S[^\n]* -->\n\Z")


class MarkedCodeBlockParser(PythonCodeBlockParser):
    """Python blocks; one after the comment `<!-- not run: reason -->` is only compiled."""

    def __call__(self, document: Document) -> list[Region]:
        regions = []
        for region in super().__call__(document):
            if NOT_RUN.search(document.text[: region.start]):
                compile(region.parsed, document.path, "exec")
            else:
                regions.append(region)
        return regions


@pytest.mark.parametrize("page", PAGES)
def test_the_python_blocks_of_a_page_run(page: str) -> None:
    document = Sybil(parsers=[MarkedCodeBlockParser()]).parse(ROOT / page)
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_run(module: str) -> None:
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.attempted
    assert not outcome.failed


def test_a_block_that_fails_is_noticed(tmp_path: Path) -> None:
    sybil = Sybil(parsers=[MarkedCodeBlockParser()])
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: needs a server -->\n```python\nassert False\n```\n")
    assert not list(sybil.parse(page).examples())
    page.write_text("```python\nassert False\n```\n")
    with pytest.raises(AssertionError):
        next(iter(sybil.parse(page).examples())).evaluate()
