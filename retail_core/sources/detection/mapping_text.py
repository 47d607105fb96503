"""A proposed mapping as the text of a YAML file with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from retail_core.sources.detection.mapping_builder import Question
from retail_core.sources.detection.proposal import Proposal

_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_RESERVED = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"])
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\ud7ff\ue000-\ufffd]")


def mapping_text(proposal: Proposal, title: str) -> str:
    """The text of a mapping file; `title` is its first comment line."""
    lines = [f"# {_comment(title)}"]
    for key, value in proposal.mapping.items():
        lines += _entry(key, value, proposal.comments)
    for name in proposal.missing:
        lines.append(f"# Missing: {name}. Name its column under columns, or set it under constants.")
    lines += [line for question in proposal.questions for line in _question(question)]
    lines += [f"# Note: {_comment(warning)}" for warning in proposal.warnings]
    return "\n".join(lines) + "\n"


def preset_text(preset: str, title: str) -> str:
    """The text of a mapping file that reads a preset's files unchanged."""
    return f"# {_comment(title)}\nextends: {preset}\n"


def _entry(key: str, value: object, comments: Mapping[str, str]) -> list[str]:
    comment = f"  # {_comment(comments[key])}" if comments.get(key) else ""
    if not isinstance(value, Mapping) or key not in {"columns", "event_types"}:
        return [f"{key}: {_value(value)}{comment}"]
    lines = [f"{key}:{comment}"]
    for name, entry in value.items():
        reason = comments.get(f"{key}.{name}")
        lines.append(f"  {_value(name)}: {_value(entry)}" + (f"  # {_comment(reason)}" if reason else ""))
    return lines


def _question(question: Question) -> list[str]:
    choices = [f"#   {_comment(choice)}" for choice in question.choices]
    choices += [f"#   or {_comment(line)}" for line in question.alternatives]
    return [f"# Decide ({question.key}): {_comment(question.text)}", *choices]


def _value(value: object) -> str:
    match value:
        case None | bool() | int():
            return json.dumps(value)
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
        case Mapping():
            return "{" + ", ".join(f"{_value(key)}: {_value(entry)}" for key, entry in value.items()) + "}"
        case _:
            text = str(value)
            if _PLAIN.match(text) and text.lower() not in _RESERVED:
                return text
            return json.dumps(text, ensure_ascii=bool(_UNPRINTABLE.search(text)))


def _comment(text: str) -> str:
    """Text on one line without characters that YAML refuses."""
    return _UNPRINTABLE.sub("?", " ".join(text.split()))
