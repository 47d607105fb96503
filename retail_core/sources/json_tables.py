"""JSON objects as tables of raw records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.sources.refusals import Refusal, broken_text_rule, refusal
from retail_core.sources.source import RawTable


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
    """One record per line, a flat JSON object whose keys are the columns; `base` as in `json_lines`."""
    table = json_lines(lines, base)
    objects, refused, accepted = [], [], []
    for row, text in enumerate(table.columns["json"].to_pylist()):
        value = load_object(text)
        if value is None:
            refused.append(refusal(table.lines[row], None, "json", None, text.rstrip("\r\n")))
        else:
            objects.append(value)
            accepted.append(row)
    flat = object_table(objects)
    broken = [(accepted[row.line - 1], row.rule) for row in flat.refused]
    refused += [refusal(table.lines[row], None, rule, None, table.raw(row)) for row, rule in broken]
    flat_rows = np.array(accepted, dtype=np.int64)[flat.lines - 1]
    return replace(table.take(flat_rows, (*table.refused, *refused)), columns=flat.columns)


def load_object(text: str) -> dict[str, object] | None:
    """The JSON object in `text`; None if it is no object. Decimal numbers are kept as text, hence exact."""
    try:
        value = json.loads(text, parse_float=str)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


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


def as_text(value: object) -> str | None:
    """A JSON value as the text of a CSV cell."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | dict | list):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)
