"""The documentation site builds without warnings and loads nothing from other hosts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
LOADED = re.compile(
    r"<(?:script|img|iframe|link rel=\"(?:stylesheet|preconnect)\")[^>]*?(?:src|href)=\"?(https?:[^\" >]+)"
)


def test_the_site_builds_strictly_and_needs_no_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    pages = {page.name: page.read_text() for page in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "contributing.html", "changelog.html", "reference.html"} <= set(pages)
    assert {name: LOADED.findall(page) for name, page in pages.items() if LOADED.search(page)} == {}
    assert "point_in_time_features" in pages["reference.html"]
