"""Quarantined rows of one user, found by the user columns of the source that the row was read with."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.nested_paths import value_at_path
from retail_core.sources.source import RowFormat
from retail_core.sources.text_cleaning import INVISIBLE, clean_id
from retail_core.store.mongo.connection import Document, Store

_PATTERN_CHARACTERS = 64
"""Characters of an id that the database compares; the rows it finds are compared as a whole here."""

_INVISIBLE_TEXT = rf"(?:{INVISIBLE}|\\u(?i:00ad|034f|061c|180e|200[b-f]|202[a-e]|206[0-46-9a-f]|feff))"
"""A character that `clean_id` removes, as it is or escaped in JSON."""

_FORMAT_FIELDS = {"header": 1, "delimiter": 1, "user_columns": 1}


def refused_rows(store: Store, user_id: str) -> Iterator[Document]:
    """Documents of the quarantine whose raw row has the user's id in one of its source's user columns.

    Where a row had its id from a joined file, its document names it. User columns and delimiter are those of
    the ledger window that refused the row, and of the window that last replayed it; a window of an older
    release does not record them, then those of the source's preset apply. A row without any of these columns
    belongs to the user if any of its values is the id.
    """

    @cache
    def ledger_window(window_id: int) -> Document:
        return store.ledger.find_one({"_id": f"window:{window_id}"}, _FORMAT_FIELDS) or {}

    written = {"raw": {"$regex": _id_pattern(user_id)}}
    for document in store.quarantine.find({"$or": [written, {"user_ids": user_id}]}):
        if user_id in document.get("user_ids", ()):
            yield document
            continue
        window_ids = [int(document[name]) for name in ("window_id", "replay_window") if name in document]
        if any(_belongs_to(user_id, document, ledger_window(window_id)) for window_id in window_ids):
            yield document


def refused_user_ids(store: Store) -> Iterator[str]:
    """Every id that `refused_rows` finds a row for, in any order, some several times."""

    @cache
    def ledger_window(window_id: int) -> Document:
        return store.ledger.find_one({"_id": f"window:{window_id}"}, _FORMAT_FIELDS) or {}

    for document in store.quarantine.find({"raw": {"$exists": True}}):
        yield from document.get("user_ids", ())
        for name in ("window_id", "replay_window"):
            if name in document:
                values = _user_values(document, ledger_window(int(document[name])))
                yield from (user_id for value in values for user_id in _spellings(value) if user_id)


def _id_pattern(user_id: str) -> str:
    """Regular expression that finds the beginning of the id as it may be written in a CSV field or JSON text.

    Invisible characters, which `clean_id` removes, may stand between its characters.
    """
    return f"{_INVISIBLE_TEXT}*".join(map(_character_pattern, user_id[:_PATTERN_CHARACTERS]))


def _character_pattern(character: str) -> str:
    """The character as it is, doubled as a quotation mark in CSV, or escaped in JSON."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(rf"\\u(?i:{units[start : start + 4]})" for start in range(0, len(units), 4))
    spellings = {
        character,
        character.replace('"', '""'),
        json.dumps(character)[1:-1],
        character.replace("/", r"\/"),
    }
    return f"(?:{'|'.join([*map(re.escape, sorted(spellings)), escaped])})"


def _belongs_to(user_id: str, document: Document, ledger_window: Mapping[str, Any]) -> bool:
    return any(user_id in _spellings(value) for value in _user_values(document, ledger_window))


def _user_values(document: Document, ledger_window: Mapping[str, Any]) -> list[str]:
    """Values of the row's user columns; all its values if it has none of these columns."""
    row_format = _row_format(ledger_window, str(document["source"]))
    values = _values_by_column(str(document["raw"]), row_format)
    columns = tuple(name for name in row_format.user_columns if name in values)
    if not columns and "user_ids" not in document:
        columns = tuple(values)
    return [values[name] for name in columns]


def _spellings(value: str) -> set[str | None]:
    """A value as it is, as an id, without the apostrophe of spreadsheets and without unclosed quotation."""
    unquoted = value.strip('"')
    return {value, clean_id(value), value.removeprefix("'"), unquoted, clean_id(unquoted)}


def _row_format(ledger_window: Mapping[str, Any], source: str) -> RowFormat:
    """Format of the rows of a window; that of the preset where an older release did not record it."""
    header = tuple(ledger_window.get("header", ()))
    if "delimiter" in ledger_window:
        return RowFormat(header, str(ledger_window["delimiter"]), tuple(ledger_window["user_columns"]))
    try:
        preset = sources.get_preset(source)
    except InputError:
        preset = sources.get_preset("canonical")
    return RowFormat(header, preset.layout.delimiter, preset.user_columns())


def _values_by_column(raw: str, row_format: RowFormat) -> dict[str, str]:
    """The row's values as text, without surrounding white space, as in the user ids of events."""
    if row_format.header:
        cells = _cells(raw, row_format.delimiter)
        if len(cells) != len(row_format.header):
            # A format without quoting, in which a field may begin with a quotation mark.
            cells = raw.split(row_format.delimiter)
        return dict(zip(row_format.header, map(str.strip, cells), strict=False))
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    named = {name: value_at_path(content, name) for name in row_format.user_columns}
    present = {name: value for name, value in named.items() if value is not None}
    return {name: _as_text(value) for name, value in (content | present).items()}


def _cells(raw: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([raw], delimiter=delimiter), [])
    except csv.Error:
        return raw.split(delimiter)


def _as_text(value: object) -> str:
    """A JSON value as text; a float without fraction as an integer, as CSV sources write ids."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
