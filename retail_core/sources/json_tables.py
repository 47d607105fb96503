"""JSON objects as tables of raw records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from retail_core.sources.json_columns import JsonColumns, as_text
from retail_core.sources.raw_table import RawTable
from retail_core.sources.refusals import Refusal, broken_text_rule, refusal

MAX_JSON_DEPTH = 500
"""Nested containers accepted; the limit of Python's parser depends on its release (3.11: 993, 3.13: 9998)."""

_EXACT_DECODER = json.JSONDecoder(parse_float=str)
_BROKEN_ESCAPE = re.compile(r"\\u(0000|[dD][89a-fA-F])")
"""JSON escapes that can give a NUL or a lone surrogate."""


def json_lines(lines: list[str], base: int) -> RawTable:
    """One record per non-blank line, with the single text column `json`.

    `lines[0]` is line `base` + 1 of its file.
    """
    refused = []
    accepted = []
    for row, line in enumerate(lines):
        if rule := broken_text_rule(line):
            refused.append(refusal(base + row + 1, None, rule, None, line.rstrip("\r\n")))
        elif line.strip():
            accepted.append(row)
    columns = {"json": pa.array([lines[row] for row in accepted], pa.string())}
    numbers = np.array(accepted, dtype=np.int64)
    return RawTable(
        columns,
        numbers + base + 1,
        lambda row: lines[int(numbers[row])].rstrip("\r\n"),
        tuple(refused),
        base + 1,
        base + len(lines),
    )


def flat_json_lines(lines: list[str], base: int) -> RawTable:
    """One record per line, a JSON object whose keys are the columns; `base` as in `json_lines`."""
    objects: list[dict[str, object]] = []
    refused: list[Refusal] = []
    accepted: list[int] = []
    for row, line in enumerate(lines):
        rule = broken_text_rule(line)
        if rule is None and (not line or line.isspace()):
            continue
        value = None if rule else load_object(line)
        if value is None:
            rule = rule or "json"
        elif _BROKEN_ESCAPE.search(line):
            rule = broken_text_rule("".join(filter(None, map(as_text, value.values()))))
        if rule or value is None:
            refused.append(refusal(base + row + 1, None, rule or "json", None, line.rstrip("\r\n")))
        else:
            objects.append(value)
            accepted.append(row)
    numbers = np.array(accepted, dtype=np.int64)
    return RawTable(
        JsonColumns(objects, _all_keys(objects)),
        numbers + base + 1,
        lambda row: lines[int(numbers[row])].rstrip("\r\n"),
        tuple(refused),
        base + 1,
        base + len(lines),
    )


def _all_keys(objects: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    keys: dict[str, object] = {}
    for row in objects:
        keys.update(row)
    return tuple(keys)


def load_object(
    text: str,
    parse_float: Callable[[str], object] | None = str,
    parse_constant: Callable[[str], object] | None = None,
) -> dict[str, object] | None:
    """The JSON object in `text`; None if it is no object or nested deeper than `MAX_JSON_DEPTH`.

    Args:
        text: JSON.
        parse_float: as in `json.loads`; by default decimal numbers are kept as text, hence exact.
        parse_constant: as in `json.loads`.
    """
    try:
        if parse_float is str and parse_constant is None:
            value = _EXACT_DECODER.decode(text)
        else:
            value = json.loads(text, parse_float=parse_float, parse_constant=parse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and not _is_deep_text(value, text) else None


def load_json(text: str) -> object:
    """The JSON value in `text`, decimal numbers as text; None if it is none or nested too deep."""
    try:
        value = _EXACT_DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return None if _is_deep_text(value, text) else value


def _is_deep_text(value: object, text: str) -> bool:
    return text.count("{") + text.count("[") > MAX_JSON_DEPTH and is_too_deep(value)


def is_too_deep(value: object) -> bool:
    """Whether a JSON value has more than `MAX_JSON_DEPTH` nested containers."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        containers = [item for item in level if isinstance(item, dict | list)]
        level = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return any(isinstance(item, dict | list) for item in level)


def object_table(rows: Sequence[Mapping[str, object]]) -> RawTable:
    """Table of records that are mappings; nested values become JSON text, lines count from 1."""
    names = dict.fromkeys(name for row in rows for name in row)
    texts = [{name: as_text(value) for name, value in row.items()} for row in rows]
    refused: list[Refusal] = []
    accepted: list[int] = []
    for row, record in enumerate(texts):
        rule = broken_text_rule("".join(value for value in record.values() if value))
        if rule:
            refused.append(refusal(row + 1, None, rule, None, json.dumps(rows[row], default=str)))
        else:
            accepted.append(row)
    columns = {name: pa.array([texts[row].get(name) for row in accepted], pa.string()) for name in names}
    numbers = np.array(accepted, dtype=np.int64)
    return RawTable(
        columns,
        numbers + 1,
        lambda row: json.dumps(rows[int(numbers[row])], default=str, ensure_ascii=False),
        tuple(refused),
        1,
        len(rows),
    )
