"""Detection of a file given as text, and its proposed mapping."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from retail_core.sources.detection import Detection, detect


def detected(folder: Path, content: str | bytes, name: str = "log.csv") -> Detection:
    """What is detected about a file of this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return detect(path)


def mapping_of(result: Detection) -> dict[str, Any]:
    """The proposed mapping."""
    content: dict[str, Any] = yaml.safe_load(result.text)
    return content


def question_of(result: Detection, key: str) -> str:
    """The question about a key with its alternatives, "" if there is none."""
    questions = (question for question in result.questions if question.key == key)
    return next(("\n".join([question.text, *question.alternatives]) for question in questions), "")


def csv_lines(header: str, rows: Sequence[str]) -> str:
    """A CSV file."""
    return "\n".join([header, *rows]) + "\n"


def hours(count: int) -> list[str]:
    """Times one hour apart."""
    return [f"2025-01-{1 + row // 24:02d}T{row % 24:02d}:00:00Z" for row in range(count)]
