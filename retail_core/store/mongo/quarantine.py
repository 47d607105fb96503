"""What could not be stored, and why: add, list, export."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import DESCENDING, UpdateOne
from pymongo.errors import BulkWriteError

from retail_core.csv_export import escape_formula
from retail_core.errors import InputError
from retail_core.file_locks import replace_file
from retail_core.sources.rules import Refusal
from retail_core.sources.source import Written
from retail_core.store.mongo.connection import Document, Store, taken
from retail_core.times import iso

COLUMNS = ("file", "line", "field", "rule", "value", "remedy", "raw", "state", "source", "at")
"""Columns of an export, and keys of a listed row."""

RAW_LIMIT = 1_000_000
"""Characters of a raw row that are kept; a longer one cannot be replayed."""

_BATCH = 5_000
_REASON = ("field", "rule", "value", "remedy")


@dataclass(frozen=True)
class Origin:
    """Where refused rows come from."""

    file_id: str
    file: str
    source: str
    window_id: int
    at: datetime
    written: Written = field(default_factory=Written)


def forget(store: Store, window_id: int) -> None:
    """Remove what an earlier, killed try of this window left."""
    store.quarantine.delete_many({"_id": {"$gte": _key(window_id, 0), "$lt": _key(window_id + 1, 0)}})


def add(store: Store, refused: Iterable[Refusal], origin: Origin) -> int:
    """Store the refusals of a window; how many there are.

    A row is there as often as the file has it that has it most often: a changed copy of a file, or an event
    posted again, adds nothing. What waits already stays where it stood first, with the reason of now.
    """
    seen: Counter[str] = Counter()
    documents = (_document(one, place, origin, seen) for place, one in enumerate(refused))
    count = 0
    while batch := list(islice(documents, _BATCH)):
        again = _insert(store, batch)
        if again:
            _settle(store, again, origin)
        count += len(batch)
    return count


def _insert(store: Store, batch: list[Document]) -> list[Document]:
    """Those of the documents whose row is there already."""
    try:
        if batch:
            store.quarantine.insert_many(batch, ordered=False)
    except BulkWriteError as error:
        return taken(error)
    return []


def _settle(store: Store, again: list[Document], origin: Origin) -> None:
    """Rows that are there already: those of earlier windows of the same file are counted on from there."""
    query = {"row": {"$in": [one["row"] for one in again]}, "file_id": origin.file_id}
    own = {one["row"] for one in store.quarantine.find(query, {"row": 1})}
    others = [one for one in again if one["row"] not in own]
    earlier: dict[str, int] = {}
    repeated = [one for one in again if one["row"] in own]
    for one in repeated:
        key, place = one["row"].split(":")
        if key not in earlier:
            same = {"row": {"$gte": f"{key}:", "$lt": f"{key};"}, "file_id": origin.file_id}
            earlier[key] = store.quarantine.count_documents(same | {"window_id": {"$ne": origin.window_id}})
        one["row"] = f"{key}:{int(place) + earlier[key]}"
    _renew(store, others + _insert(store, repeated))


def _renew(store: Store, again: list[Document]) -> None:
    """Tell of rows that wait already why they are refused now."""
    updates = [
        UpdateOne({"row": one["row"], "state": "refused"}, {"$set": {name: one[name] for name in _REASON}})
        for one in again
    ]
    if updates:
        store.quarantine.bulk_write(updates, ordered=False)


def _key(window_id: int, place: int) -> str:
    return f"{window_id:012d}:{place:09d}"


def _row_key(one: Refusal, origin: Origin) -> str:
    """Tells rows apart by what they say: their text, and what its fields mean."""
    parts = (origin.source, origin.written.delimiter, *origin.written.header, one.raw)
    return hashlib.blake2b("\x1f".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _document(one: Refusal, place: int, origin: Origin, seen: Counter[str]) -> Document:
    key = _row_key(one, origin)
    seen[key] += 1
    document: Document = {
        "_id": _key(origin.window_id, place),
        "row": f"{key}:{seen[key]}",
        "file_id": origin.file_id,
        "file": origin.file,
        "source": origin.source,
        "window_id": origin.window_id,
        "at": origin.at,
        "line": one.line,
        "state": "refused",
        "raw": readable(one.raw[:RAW_LIMIT]),
    } | reason(one)
    if document["raw"] != one.raw:
        document["raw_bytes"] = one.raw[:RAW_LIMIT].encode("utf-8", "surrogateescape")
    return document


def reason(one: Refusal) -> Document:
    """The part of a document that says why."""
    value = None if one.value is None else readable(one.value)
    return dict(zip(_REASON, (one.field, one.rule, value, one.remedy), strict=True))


def readable(text: str) -> str:
    """`text` with whatever is not valid Unicode written out as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def count_open(store: Store) -> int:
    """How many rows wait in quarantine."""
    return store.quarantine.count_documents({"state": "refused"})


def list_open(store: Store, limit: int = 50) -> list[dict[str, object]]:
    """Rows that wait in quarantine, newest first, with the keys of `COLUMNS`; `at` in ISO 8601."""
    found = store.quarantine.find({"state": "refused"}, sort=[("_id", DESCENDING)], limit=limit)
    return [_row(document) for document in found]


def _row(document: Mapping[str, Any]) -> dict[str, object]:
    at: datetime = document["at"]
    return {name: document.get(name) for name in COLUMNS} | {"at": iso(at)}


def export(store: Store, file: Path) -> int:
    """Write every row ever refused, with its state, to a CSV; how many. The file appears whole or not at all.

    Cells that a spreadsheet would take for a formula are written with an apostrophe in front.

    Raises:
        InputError: the file cannot be written.
    """
    count = 0
    try:
        with replace_file(file) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(lines)
            writer.writerow(COLUMNS)
            for document in store.quarantine.find(sort=[("_id", 1)]):
                writer.writerow([escape_formula(value) for value in _row(document).values()])
                count += 1
            lines.detach()
    except OSError as error:
        raise InputError(
            f"{file} cannot be written: {error.strerror}.", remedy="name a file in a folder that exists."
        ) from error
    return count
