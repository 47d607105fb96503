"""The modules that the images compile exist."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
MODULES_BY_IMAGE = runpy.run_path(str(ROOT / "docker" / "preload.py"))["PARTS"]
OWN_MODULES = sorted(
    {
        name
        for modules in MODULES_BY_IMAGE.values()
        for name in modules
        if name.split(".")[0] in {"retail_core", "bentos", "flows"}
    }
)


@pytest.mark.parametrize("name", OWN_MODULES)
def test_a_preloaded_module_exists(name: str) -> None:
    assert importlib.util.find_spec(name)
