"""Preset for OTTO: JSON lines with one session and its events each; a session counts as a user."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa

from retail_core.sources.json_columns import as_text
from retail_core.sources.json_tables import load_object
from retail_core.sources.raw_table import RawTable
from retail_core.sources.refusals import Refusal, refusal
from retail_core.sources.source import Source
from retail_core.sources.source_options import Layout, TimeFormat

_NAMES = ("session", "aid", "ts", "type")


def prepare_sessions(table: RawTable, _: Source) -> RawTable:
    """One record per event of each session; a line that is no session is one refusal.

    The raw row of an event is a session with this event alone, so that it can be replayed on its own.
    """
    rows: list[tuple[str | None, ...]] = []
    session_rows: list[int] = []
    refused: list[Refusal] = []
    for row, line in enumerate(table.columns["json"].to_pylist()):
        value = load_object(line)
        events = None if value is None else value.get("events")
        if value is None or not isinstance(events, list) or not all(isinstance(e, dict) for e in events):
            refused.append(refusal(table.lines[row], None, "json", None, line.rstrip("\r\n")))
            continue
        user = as_text(value.get("session"))
        rows += [(user, *(as_text(event.get(name)) for name in _NAMES[1:])) for event in events]
        session_rows += [row] * len(events)
    event_table = table.take(np.array(session_rows, dtype=np.int64), (*table.refused, *refused))
    values = zip(*rows, strict=True) if rows else ([] for _ in _NAMES)
    columns = {name: pa.array(column, pa.string()) for name, column in zip(_NAMES, values, strict=True)}
    return replace(event_table, columns=columns, raw=lambda row: _single_event_session(rows[row]))


def _single_event_session(record: tuple[str | None, ...]) -> str:
    user, *event = record
    return json.dumps({"session": user, "events": [dict(zip(_NAMES[1:], event, strict=True))]})


OTTO = Source(
    name="otto",
    columns={"user_id": ("session",), "event_time": ("ts",), "event_type": ("type",), "item_id": ("aid",)},
    layout=Layout(kind="jsonl"),
    time=TimeFormat("unix", "ms"),
    vocabulary={"clicks": "view_item", "carts": "add_to_cart", "orders": "purchase"},
    needs=("session", "events"),
    prepare=prepare_sessions,
)
