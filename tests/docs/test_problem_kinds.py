"""The problems of the HTTP service are those that docs/api.md lists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bentos.http.exchange import _KINDS

ROOT = Path(__file__).resolve().parents[2]


def kinds_in_code() -> Iterator[str]:
    """Second argument of each `Problem(status, kind, ...)`, and the kinds of foreign errors."""
    yield from _KINDS.values()
    for path in (ROOT / "bentos").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem"
            ):
                continue
            texts = (part.value for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant))
            yield from (text for text in texts if isinstance(text, str))


def test_every_problem_is_documented_and_exists() -> None:
    section = (ROOT / "docs" / "api.md").read_text().split("## Errors", 1)[1].split("\n## ", 1)[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {kind for cell in first_cells for kind in re.findall(r"`([a-z-]+)`", cell)}
    assert documented == {*kinds_in_code(), "refused", "unexpected"}
    assert "too-slow" in documented
