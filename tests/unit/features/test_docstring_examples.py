"""The examples in the docstrings of the feature package run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from retail_core import features

MODULES = [info.name for info in pkgutil.walk_packages(features.__path__, "retail_core.features.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    examples = [
        example
        for name in MODULES
        for test in doctest.DocTestFinder().find(importlib.import_module(name))
        for example in test.examples
    ]
    assert len(examples) > 10
