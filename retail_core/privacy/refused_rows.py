"""Refused rows of one user, told by the columns that say whose a row is."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from retail_core import sources
from retail_core.errors import InputError
from retail_core.sources.source import Written
from retail_core.store.mongo.connection import Document, Store

_WRITTEN = {"header": 1, "delimiter": 1, "user_columns": 1}


def refused_rows(store: Store, user_id: str) -> Iterator[Document]:
    """Documents of the quarantine whose raw row names the user in one of its source's user columns.

    Those columns and the delimiter are what the row was read with, last and first, as the ledger has it;
    where it does not say, the preset's. A row that has none of the columns is the user's if any of its
    values is the id.
    """

    @cache
    def window(key: int) -> Document:
        return store.ledger.find_one({"_id": f"window:{key}"}, _WRITTEN) or {}

    for document in store.quarantine.find({"raw": {"$regex": _pattern(user_id)}}):
        # The window that brought the row, and the one that read it again.
        keys = [int(document[name]) for name in ("window_id", "replay_window") if name in document]
        if any(_names(document, window(key), user_id) for key in keys):
            yield document


def _pattern(user_id: str) -> str:
    """The id as a CSV field, quoted or not, or a JSON text may hold it."""
    spelled = {user_id, user_id.replace('"', '""'), json.dumps(user_id)[1:-1]}
    return "|".join(re.escape(one) for one in sorted(spelled))


def _names(document: Document, window: Mapping[str, Any], user_id: str) -> bool:
    written = _written(window, str(document["source"]))
    values = _values(str(document["raw"]), written)
    columns = tuple(name for name in written.user_columns if name in values) or tuple(values)
    return any(values[name] == user_id for name in columns)


def _written(window: Mapping[str, Any], source: str) -> Written:
    """As the window says; one that does not is of before it did."""
    header = tuple(window.get("header", ()))
    if "delimiter" in window:
        return Written(header, str(window["delimiter"]), tuple(window["user_columns"]))
    try:
        preset = sources.get(source)
    except InputError:
        preset = sources.get("canonical")
    return Written(header, preset.layout.delimiter, preset.columns.get("user_id", ()))


def _values(raw: str, written: Written) -> dict[str, str]:
    """The row's texts by column, without surrounding white space, as the user ids of events are."""
    if written.header:
        return dict(zip(written.header, map(str.strip, _cells(raw, written.delimiter)), strict=False))
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return {name: _text(value) for name, value in content.items()} if isinstance(content, dict) else {}


def _cells(raw: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([raw], delimiter=delimiter), [])
    except csv.Error:
        return raw.split(delimiter)


def _text(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole and isinstance(value, float) else value).strip()
