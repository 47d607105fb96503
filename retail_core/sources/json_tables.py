"""JSON objects as tables of raw records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.sources.rules import Refusal, refusal, text_problem
from retail_core.sources.source import Table


def json_lines(lines: list[str], base: int) -> Table:
    """One record a line with the single text column `json`; blank lines are none."""
    refused = []
    kept = []
    for row, line in enumerate(lines):
        if rule := text_problem(line):
            refused.append(refusal(base + row + 1, None, rule, None, line.rstrip("\r\n")))
        elif line.strip():
            kept.append(row)
    columns = {"json": pa.array([lines[row] for row in kept], pa.string())}
    numbers = np.array(kept, dtype=np.int64)
    return Table(
        columns,
        numbers + base + 1,
        lambda row: lines[int(numbers[row])].rstrip("\r\n"),
        tuple(refused),
        base + 1,
        base + len(lines),
    )


def flat_json_lines(lines: list[str], base: int) -> Table:
    """One record a line, a flat JSON object whose keys are the columns."""
    table = json_lines(lines, base)
    objects, refused, kept = [], [], []
    for row, text in enumerate(table.columns["json"].to_pylist()):
        value = load_object(text)
        if value is None:
            refused.append(refusal(table.lines[row], None, "json", None, text.rstrip("\r\n")))
        else:
            objects.append(value)
            kept.append(row)
    flat = object_table(objects)
    unclean = [(kept[one.line - 1], one.rule) for one in flat.refused]
    refused += [refusal(table.lines[row], None, rule, None, table.raw(row)) for row, rule in unclean]
    clean = np.array(kept, dtype=np.int64)[flat.lines - 1]
    return replace(table.take(clean, (*table.refused, *refused)), columns=flat.columns)


def load_object(text: str) -> dict[str, object] | None:
    """The JSON object in `text`, None if it is not one. Decimals stay exact, as text."""
    try:
        value = json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def object_table(rows: Sequence[Mapping[str, object]]) -> Table:
    """Records given as mappings: text, numbers, None, and JSON for anything nested; lines count from 1."""
    names = dict.fromkeys(name for row in rows for name in row)
    texts = [{name: as_text(value) for name, value in row.items()} for row in rows]
    refused: list[Refusal] = []
    kept: list[int] = []
    for row, record in enumerate(texts):
        rule = text_problem("".join(value for value in record.values() if value))
        if rule:
            refused.append(refusal(row + 1, None, rule, None, json.dumps(rows[row], default=str)))
        else:
            kept.append(row)
    columns = {name: pa.array([texts[row].get(name) for row in kept], pa.string()) for name in names}
    numbers = np.array(kept, dtype=np.int64)
    return Table(
        columns,
        numbers + 1,
        lambda row: json.dumps(rows[int(numbers[row])], default=str, ensure_ascii=False),
        tuple(refused),
        1,
        len(rows),
    )


def as_text(value: object) -> str | None:
    """A JSON value as the text a CSV cell would hold."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)
