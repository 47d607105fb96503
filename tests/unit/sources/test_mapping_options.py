"""Every option of a mapping gives what its example in `docs/sources.md` says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retail_core import sources
from retail_core.sources.mapping_schema import SourceMapping
from tests.unit.sources.event_rows import read_rows

DOCS = Path(__file__).resolve().parents[3] / "docs" / "sources.md"


def _sections() -> dict[str, str]:
    """Text of each example by its heading."""
    text = DOCS.read_text().split("## Mapping options by example", 1)[1].split("\n## ", 1)[0]
    return {section.splitlines()[0]: section for section in re.split(r"^### ", text, flags=re.MULTILINE)[1:]}


def _block(section: str, language: str) -> str:
    return section.split(f"```{language}\n", 1)[1].split("```", 1)[0]


@pytest.mark.parametrize("heading", _sections())
def test_a_documented_option_gives_the_documented_rows(tmp_path: Path, heading: str) -> None:
    section = _sections()[heading]
    raw, mapping = tmp_path / "raw", tmp_path / "mapping.yaml"
    raw.write_text(_block(section, "jsonl" if "```jsonl" in section else "csv"))
    mapping.write_text(_block(section, "yaml"))
    for name, content in re.findall(r'```csv title="([^"]+)"\n(.*?)```', section, re.DOTALL):
        (tmp_path / name).write_text(content)
    assert read_rows(raw, sources.from_mapping(mapping)) == _block(section, "text").splitlines()


def test_every_key_of_a_mapping_is_documented() -> None:
    text = DOCS.read_text()
    assert [name for name in SourceMapping.model_fields if f"{name}:" not in text] == []
